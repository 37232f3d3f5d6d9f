//! Which connector is it? The two sides of one, as the kernel ties them together.
//!
//! A USB 3 hub is two hubs in one: its high-speed half and its SuperSpeed half hang on buses of their own, may have
//! different numbers on the way, and each has a port for every connector. The kernel links the two ports of one connector
//! (`peer`). The high-speed side has every device that is not SuperSpeed, so its name is the connector's.

use std::fs;

use super::roots::Roots;
use super::sysfs;
use crate::bus::{Port, Speed};

/// The connector's name for the port where a device is enumerated; that port itself where there is no other side, or
/// the kernel does not know of one.
///
/// Where only a hub's own connector has both sides, its ports cannot be paired by number, so they keep their names.
pub(super) fn canonical(roots: &Roots, path: &Port) -> Port {
    let root = roots.devices().join(format!("usb{}", path.bus()));
    if sysfs::speed(&root) != Some(Speed::Super) {
        return path.clone();
    }
    peer(roots, path).unwrap_or_else(|| path.clone())
}

/// The port at the other end of the `peer` link.
fn peer(roots: &Roots, path: &Port) -> Option<Port> {
    let hop = path.hops().last()?;
    let (hub, interface) = match path.hub() {
        Some(hub) => (hub.to_string(), format!("{hub}:1.0")),
        None => (format!("usb{}", path.bus()), format!("{}-0:1.0", path.bus())),
    };
    let link = roots.devices().join(interface).join(format!("{hub}-port{hop}/peer"));
    let target = fs::read_link(link).ok()?;
    port(target.file_name()?.to_str()?)
}

/// The port that sysfs calls `usb1-port4` or `1-4-port2`.
fn port(name: &str) -> Option<Port> {
    let (hub, hop) = name.rsplit_once("-port")?;
    let hop = hop.parse().ok()?;
    match hub.strip_prefix("usb") {
        Some(bus) => Port::new(bus.parse().ok()?, &[hop]),
        None => {
            let hub: Port = hub.parse().ok()?;
            Port::new(hub.bus(), &[hub.hops(), &[hop]].concat())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usb::tree::Tree;

    fn named(tree: &Tree, path: &str) -> String {
        canonical(tree.roots(), &path.parse().unwrap()).to_string()
    }

    #[test]
    fn both_sides_of_a_connector_are_one_port() {
        let tree = Tree::new();
        tree.root(1, 480).root(2, 5000);
        // The hub sits in port 9 of one bus and port 3 of the other, and its halves number their ports differently.
        tree.hub("1-9", 480).hub("2-3", 5000);
        tree.peers("2-3", "1-9").peers("2-3.1", "1-9.2").peers("2-3.2", "1-9.1");
        assert_eq!(named(&tree, "2-3"), "1-9");
        assert_eq!(named(&tree, "2-3.1"), "1-9.2");
        assert_eq!(named(&tree, "2-3.2"), "1-9.1");
        assert_eq!(named(&tree, "1-9.2"), "1-9.2");
        // A hub behind that hub.
        tree.hub("2-3.1", 5000).hub("1-9.2", 480).peers("2-3.1.4", "1-9.2.4");
        assert_eq!(named(&tree, "2-3.1.4"), "1-9.2.4");
        assert_eq!(named(&tree, "1-9.2.4"), "1-9.2.4");
    }

    #[test]
    fn a_port_without_another_side_keeps_its_name() {
        let tree = Tree::new();
        tree.root(1, 480).root(2, 10000).hub("2-1", 5000).peers("2-1", "1-1");
        assert_eq!(named(&tree, "1-2"), "1-2");
        assert_eq!(named(&tree, "2-2"), "2-2");
        assert_eq!(named(&tree, "2-1.3"), "2-1.3");
        // Of a bus nothing is known of.
        assert_eq!(named(&tree, "7-1"), "7-1");
        // Links that lead nowhere sensible.
        tree.link("2-0:1.0/usb2-port4/peer", "../../somewhere/else");
        tree.link("2-0:1.0/usb2-port5/peer", "../../usb1/1-0:1.0/usb1-port0");
        assert_eq!(named(&tree, "2-4"), "2-4");
        assert_eq!(named(&tree, "2-5"), "2-5");
    }

    #[test]
    fn names_of_ports() {
        assert_eq!(port("usb1-port4"), "1-4".parse().ok());
        assert_eq!(port("1-4.2-port10"), "1-4.2.10".parse().ok());
        for wrong in ["usb1", "port1", "usb-port1", "1-4-portx", "1-1.1.1.1.1.1-port1", "usb1-port256"] {
            assert_eq!(port(wrong), None, "{wrong}");
        }
    }
}
