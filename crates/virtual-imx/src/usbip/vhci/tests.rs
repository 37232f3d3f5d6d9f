use super::*;
use crate::board::Setup;
use crate::model::{Model, Tree};

/// A folder that looks like sysfs with two controllers.
fn sysfs(state: u32) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (controller, buses) in [(0, [(1, "480"), (2, "5000")]), (1, [(3, "480"), (4, "5000")])] {
        let folder = root.path().join(format!("vhci_hcd.{controller}"));
        for (bus, speed) in buses {
            fs::create_dir_all(folder.join(format!("usb{bus}"))).unwrap();
            fs::write(folder.join(format!("usb{bus}/speed")), format!("{speed}\n")).unwrap();
        }
        fs::create_dir_all(folder.join("power")).unwrap();
        let mut status = "hub port sta spd dev      sockfd local_busid\n".to_owned();
        for port in 0..30 {
            let hub = if port < 15 { "hs" } else { "ss" };
            let number = controller * 30 + port;
            status.push_str(&format!("{hub}  {number:04} {state:03} 000 00000000 000000 0-0\n"));
        }
        let name = if controller == 0 { "status".to_owned() } else { format!("status.{controller}") };
        fs::write(root.path().join("vhci_hcd.0").join(name), status).unwrap();
    }
    root
}

fn device(path: &str) -> Device {
    Board::new(Setup { path: path.to_owned(), ..Setup::new(Model::Imx8mm, Tree::Nxp) }).device().unwrap()
}

#[test]
fn ports_have_the_paths_that_devices_get() {
    let root = sysfs(4);
    let vhci = Vhci::open(root.path()).unwrap();
    let ports = vhci.ports().unwrap();
    assert_eq!(ports.len(), 60);
    assert!(ports.iter().all(Port::is_free));
    let number = |path: &str, speed| vhci.port(path, speed).map(|port| port.number);
    assert_eq!(number("1-1", Speed::High).unwrap(), 0);
    assert_eq!(number("1-15", Speed::High).unwrap(), 14);
    assert_eq!(number("2-1", Speed::Super).unwrap(), 15);
    assert_eq!(number("3-2", Speed::High).unwrap(), 31);
    assert_eq!(number("4-15", Speed::Super).unwrap(), 59);
    let error = number("1-1.2", Speed::High).unwrap_err().to_string();
    assert!(error.contains("1-1.2 is no port") && error.contains("1-1 to 3-15"), "{error}");
    assert!(number("1-1", Speed::Super).is_err());
    assert!(matches!(Vhci::open(&root.path().join("none")), Err(VhciError::Missing { .. })));
}

#[test]
fn a_board_is_attached_with_a_socket_the_kernel_is_told_of() {
    let root = sysfs(4);
    let vhci = Vhci::open(root.path()).unwrap();
    let stream = vhci.attach(&device("3-2"), &Stop::new()).unwrap();
    let line = fs::read_to_string(root.path().join("vhci_hcd.0/attach")).unwrap();
    let words: Vec<u32> = line.split(' ').map(|word| word.parse().unwrap()).collect();
    assert_eq!((words[0], words[2], words[3]), (31, 0x1_0002, 3));
    // The file took no handle, so that the other end is closed now.
    let Stream::Unix(_) = &stream else { panic!("a pair of sockets") };
    assert_eq!(io::Read::read(&mut { stream }, &mut [0; 1]).unwrap(), 0);
    vhci.detach(31).unwrap();
    assert_eq!(fs::read_to_string(root.path().join("vhci_hcd.0/detach")).unwrap(), "31");
}

#[test]
fn a_port_in_use_is_waited_for() {
    let root = sysfs(6);
    let vhci = Vhci::open(root.path()).unwrap();
    let stop = Stop::new();
    let result = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| vhci.attach(&device("1-1"), &stop).map(drop));
        std::thread::sleep(Duration::from_millis(30));
        stop.set();
        waiting.join().unwrap()
    });
    assert!(matches!(result, Err(VhciError::InUse(0))));
    let status = fs::read_to_string(root.path().join("vhci_hcd.0/status")).unwrap();
    fs::write(root.path().join("vhci_hcd.0/status"), status.replace(" 006 ", " 004 ")).unwrap();
    assert!(vhci.attach(&device("1-1"), &stop).is_ok());
}
