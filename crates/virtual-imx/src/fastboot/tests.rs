use super::*;
use crate::emmc::{Area, Defect, Emmc, Geometry};
use crate::model::Model;
use crate::timing::Timing;

struct Rig {
    machine: Machine,
    server: Fastboot,
}

fn rig(tree: Tree) -> Rig {
    let emmc = Emmc::new(Geometry { user_bytes: 64 << 20, boot_bytes: 1 << 20, ..Geometry::default() });
    let model = if tree == Tree::Nxp { Model::Imx8mm } else { Model::Imx8mp };
    let mut machine = Machine::new(model, tree, [(2, emmc)].into(), Timing::default());
    let server = Fastboot::new(&mut machine, "0123456789abcdef");
    Rig { machine, server }
}

impl Rig {
    fn replies(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.server.reply(&self.machine, 512))
            .map(|reply| String::from_utf8_lossy(&reply).into_owned())
            .collect()
    }

    /// All that is answered to a command.
    fn say(&mut self, command: &str) -> Vec<String> {
        self.server.request(&mut self.machine, command.as_bytes()).unwrap();
        self.replies()
    }

    fn download(&mut self, bytes: &[u8]) {
        let digits = format!("{:08x}", bytes.len());
        assert_eq!(self.say(&format!("download:{digits}")), [format!("DATA{digits}")]);
        for piece in bytes.chunks(REQUEST_BYTES) {
            self.server.request(&mut self.machine, piece).unwrap();
        }
        assert_eq!(self.replies(), ["OKAY"]);
    }

    fn peek(&self, area: Area, at: u64, len: usize) -> Vec<u8> {
        self.machine.cards[&2].peek(area, at, len).unwrap()
    }
}

/// A sparse image: blocks of 4096, these chunks (type, length in blocks, payload), and a total of blocks.
fn image(chunks: &[(u16, u32, &[u8])], total: u32) -> Vec<u8> {
    let mut bytes = 0xed26_ff3a_u32.to_le_bytes().to_vec();
    for half in [1u16, 0, 28, 12] {
        bytes.extend(half.to_le_bytes());
    }
    for word in [4096, total, u32::try_from(chunks.len()).unwrap(), 0] {
        bytes.extend(word.to_le_bytes());
    }
    for (kind, length, payload) in chunks {
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(length.to_le_bytes());
        bytes.extend(u32::try_from(12 + payload.len()).unwrap().to_le_bytes());
        bytes.extend(*payload);
    }
    bytes
}

#[test]
fn variables_of_both_trees() {
    let mut nxp = rig(Tree::Nxp);
    for (name, answer) in [
        ("version", "OKAY0.4"),
        ("max-download-size", "OKAY0x40000000"),
        ("serialno", "OKAY0123456789abcdef"),
        ("productX", "OKAYimx8mm_evk"),
        ("logical-block-size", "OKAY0x200"),
        ("partition-size:all", "OKAY0x4000000"),
        ("partition-type:all", "OKAYdevice"),
        ("partition-size:none", "FAILFAILunknown variable:partition-size:none"),
        ("nothing", "FAILFAILunknown variable:nothing"),
    ] {
        assert_eq!(nxp.say(&format!("getvar:{name}")), [answer], "{name}");
    }
    let all = nxp.say("getvar:all");
    assert!(all.contains(&"INFOpartition-size:bootloader:0xf7c00".to_owned()), "{all:?}");
    assert_eq!(all.last().unwrap(), "OKAYDone!");

    let mut upstream = rig(Tree::Upstream);
    for (name, answer) in [
        ("max-download-size", "OKAY0x20000000"),
        ("serialno", "FAILValue not set"),
        ("logical-block-size", "FAILVariable not implemented"),
        ("partition-size:mmc0", "OKAY0x0000000004000000"),
        ("partition-size:2", "OKAY0x0000000004000000"),
        ("partition-size:2.1", "OKAY0x0000000000100000"),
        ("partition-size:all", "FAILinvalid partition or device"),
        ("has-slot:x", "OKAYno"),
    ] {
        assert_eq!(upstream.say(&format!("getvar:{name}")), [answer], "{name}");
    }
    // The channel for values: upstream asks the variable first, NXP last.
    assert_eq!(upstream.say("UCmd:setenv fastboot.version 9"), ["OKAY"]);
    assert_eq!(upstream.say("getvar:version"), ["OKAY9"]);
    assert_eq!(nxp.say("UCmd: setenv fastboot.version 9; setenv fastboot.w 8"), ["OKAY"]);
    assert_eq!([nxp.say("getvar:version"), nxp.say("getvar:w")].concat(), ["OKAY0.4", "OKAY8"]);
    // 64 digits do not fit.
    assert_eq!(nxp.say("UCmd:hash sha256 40400000 0 fastboot.h"), ["OKAY"]);
    let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(nxp.say("getvar:h"), [format!("OKAY{}", &digest[..60])]);
    assert_eq!(upstream.say("oem run:hash sha256 40400000 0 fastboot.h"), ["OKAY"]);
    assert_eq!(upstream.say("getvar:h"), [format!("OKAY{}", &digest[..59])]);
}

#[test]
fn downloads_take_exactly_their_bytes() {
    let mut rig = rig(Tree::Nxp);
    assert_eq!(rig.say("download:00000000"), ["FAILExpected nonzero image size"]);
    assert_eq!(rig.say("download:50000000"), ["FAIL50000000"]);
    assert_eq!(rig.say("download"), ["FAILExpected command parameter"]);
    assert_eq!(rig.say("download:0x10"), ["DATA0x10"]);
    // A command in the middle is data; there is no way out.
    assert!(rig.say("flash:all").is_empty());
    assert_eq!(rig.server.bytes_wanted(), 7);
    assert_eq!(rig.say("1234567 and more"), ["OKAY"]);
    assert_eq!(rig.machine.ram.bytes(0x4280_0000, 17).unwrap(), b"flash:all1234567\0");
    assert_eq!([rig.machine.env("filesize"), rig.machine.env("fastboot_bytes")], [Some("10"), Some("10")]);
    assert_eq!(rig.say("upload"), ["DATA00000010", "flash:all1234567", "OKAY"]);
    rig.say("download:00000010");
    rig.server.bus_reset();
    assert_eq!(rig.say("getvar:version"), ["OKAY0.4"]);
    assert_eq!(rig.say(&"x".repeat(4096)), ["FAILbuffer overflow"]);
    assert_eq!(rig.say("flash me"), ["FAILpartition does not exist"]);
    assert_eq!(rig.say("oem run:true"), ["FAILunrecognized command"]);
}

#[test]
fn raw_images_round_up_with_stale_bytes() {
    let mut rig = rig(Tree::Upstream);
    rig.download(&[7; 1024]);
    rig.download(&[8; 513]);
    assert_eq!(rig.say("flash:mmc0boot0"), ["OKAY"]);
    assert_eq!(rig.peek(Area::Boot0, 0, 1025), [[8; 513].as_slice(), &[7; 511], &[0]].concat());
    assert_eq!(rig.say("oem run:setenv fastboot_raw_partition_w 0x10 1"), ["OKAY"]);
    assert_eq!(rig.say("flash:w"), ["FAILtoo large for partition"]);
    assert_eq!(rig.say("flash:nowhere"), ["FAILinvalid partition or device"]);
    rig.machine.cards.get_mut(&2).unwrap().add_defect(Area::User, 1..2, Defect::Write);
    assert_eq!(rig.say("flash:mmc0"), ["FAILfailed writing to device"]);
    assert_eq!(rig.say("flash:gpt"), ["FAILinvalid GPT partition"]);
    assert_eq!(rig.say("flash:mbr"), ["FAILinvalid MBR partition"]);
    assert_eq!(rig.say("oem partconf:1 1"), ["OKAY"]);
    assert_eq!(rig.machine.cards[&2].partconf().byte(), 0x48);
}

#[test]
fn sparse_images_compose() {
    let mut rig = rig(Tree::Nxp);
    let raw = vec![1; 8192];
    rig.download(&image(&[(0xcac1, 2, &raw), (0xcac3, 1, &[]), (0xcac2, 1, b"abcd")], 4));
    assert_eq!(rig.say("flash:all"), ["OKAY"]);
    rig.download(&image(&[(0xcac3, 2, &[]), (0xcac1, 1, &[2; 4096]), (0xcac3, 0x4000_0000, &[])], 0x4000_0003));
    assert_eq!(rig.say("flash:all"), ["OKAY"]);
    let expected = [raw, vec![2; 4096], b"abcd".repeat(1024)].concat();
    assert!(rig.peek(Area::User, 0, 16384) == expected);
    // What is wrong shows late or never.
    rig.download(&image(&[(0xcac1, 1, &[3; 4096])], 2));
    assert_eq!(rig.say("flash:all"), ["FAILsparse image write failure"]);
    assert_eq!(rig.peek(Area::User, 0, 1), [3]);
    let whole = image(&[(0xcac1, 2, &[4; 8192])], 2);
    rig.download(&whole);
    rig.download(&whole[..100]);
    assert_eq!(rig.say("flash:all"), ["OKAY"]);
    assert_eq!(rig.peek(Area::User, 8191, 1), [4]);
    for (image, problem) in [
        (image(&[(0xcac1, 2, &[4; 4096])], 2), "Bogus chunk size for chunk type Raw"),
        (image(&[(0xcac2, 2, &[4; 8])], 2), "Bogus chunk size for chunk type FILL"),
        (image(&[(0xcac3, 0x4000, &[]), (0xcac2, 1, &[4; 4])], 2), "Request would exceed partition size!"),
        (image(&[(0xcac5, 1, &[])], 1), "Unknown chunk type"),
    ] {
        rig.download(&image);
        assert_eq!(rig.say("flash:all"), [format!("FAIL{problem}")]);
    }
    rig.machine.cards.get_mut(&2).unwrap().add_defect(Area::User, 1..2, Defect::Write);
    rig.download(&whole);
    assert_eq!(rig.say("flash:all"), ["FAILflash write failure"]);
    // A CRC32's value is taken for a chunk.
    let mut upstream = rig_with_crc();
    assert_eq!(upstream.say("flash:mmc0"), ["FAILUnknown chunk type"]);
}

fn rig_with_crc() -> Rig {
    let mut rig = rig(Tree::Upstream);
    rig.download(&image(&[(0xcac1, 1, &[1; 4096]), (0xcac4, 0, &[1; 4]), (0xcac3, 1, &[])], 2));
    rig
}

#[test]
fn nxp_leaves_the_boot_partition_selected_and_may_say_nothing() {
    let mut rig = rig(Tree::Nxp);
    rig.download(&image(&[(0xcac1, 1, &[5; 4096])], 1));
    // A loader is written as it is, even if it looks like a sparse image; on i.MX8M Mini it begins at 33 KiB.
    assert_eq!(rig.say("flash:bootloader"), ["OKAY"]);
    assert_eq!(rig.peek(Area::Boot0, 0x8400, 4), 0xed26_ff3a_u32.to_le_bytes());
    assert_eq!(rig.say("UCmd:mmc write 42800000 0 1"), ["OKAY"]);
    assert_eq!(rig.peek(Area::Boot0, 0, 4), 0xed26_ff3a_u32.to_le_bytes());
    assert_eq!(rig.say("flash:none"), ["FAILpartition does not exist"]);
    assert_eq!(rig.say("erase:all"), ["FAILpartition does not exist"]);
    assert_eq!(rig.say("UCmd:setenv target_ubootdev 5"), ["OKAY"]);
    assert!(rig.say("flash:all").is_empty());
}

#[test]
fn commands_now_and_later() {
    let mut rig = rig(Tree::Nxp);
    assert_eq!(rig.say("UCmd:false"), ["FAIL"]);
    assert_eq!(rig.say("UCmd:setenv stdout serial,fastboot"), ["OKAY"]);
    let heard = rig.say(&format!("UCmd:echo {}", "y".repeat(70)));
    assert_eq!(heard, [format!("INFO{}", "y".repeat(60)), format!("INFO{}\n", "y".repeat(10)), "OKAY".to_owned()]);
    assert_eq!(rig.say(&format!("ACmd:{}", "z".repeat(64))), ["FAILtoo long command"]);
    assert_eq!(rig.say("ACmd:setenv done yes; reset"), ["OKAY"]);
    assert_eq!(rig.machine.env("done"), None);
    assert_eq!(rig.server.finish(&mut rig.machine), Ok(Some(After::Reset)));
    assert_eq!(rig.machine.env("done"), Some("yes"));
    assert_eq!(rig.say("UCmd:setenv fastboot_buffer ${loadaddr}"), ["OKAY"]);
    rig.download(b"here");
    assert_eq!(rig.machine.ram.bytes(0x4040_0000, 4).unwrap(), b"here");
    assert!(rig.server.request(&mut rig.machine, b"UCmd:mw 0 0").is_err());
}

/// One partition of 100 blocks called "data", from block 2048.
fn partitioned() -> Vec<u8> {
    let mut disk = vec![0; gpt::PRIMARY_BYTES];
    let entry = &mut disk[1024..1152];
    entry[..32].fill(0x11);
    entry[32..40].copy_from_slice(&2048u64.to_le_bytes());
    entry[40..48].copy_from_slice(&2147u64.to_le_bytes());
    for (at, unit) in "data".encode_utf16().enumerate() {
        entry[56 + 2 * at..58 + 2 * at].copy_from_slice(&unit.to_le_bytes());
    }
    let entries = crc32fast::hash(&disk[1024..]);
    let header = &mut disk[512..1024];
    header[..12].copy_from_slice(b"EFI PART\0\0\x01\0");
    for (at, value) in [(24, 1u64), (32, 131_071), (40, 34), (48, 131_038), (72, 2)] {
        header[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    for (at, value) in [(12, 92u32), (80, 128), (84, 128), (88, entries)] {
        header[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    let sum = crc32fast::hash(&header[..92]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    disk
}

#[test]
fn partition_tables() {
    for (tree, erased) in [(Tree::Nxp, "data"), (Tree::Upstream, "2:1")] {
        let mut rig = rig(tree);
        rig.download(&partitioned());
        assert_eq!(rig.say("flash:gpt"), ["OKAY"]);
        let header = rig.peek(Area::User, (64 << 20) - 512, 512);
        assert_eq!(header[..8], *b"EFI PART");
        assert_eq!(header[24..32], 131_071u64.to_le_bytes());
        assert_eq!(rig.peek(Area::User, (64 << 20) - 33 * 512, 16), [0x11; 16]);
        // NXP's table of names is older than the partition until the device changes.
        let known = rig.say("getvar:partition-size:data");
        if tree == Tree::Nxp {
            assert_eq!(known, ["FAILFAILunknown variable:partition-size:data"]);
            rig.say("UCmd:setenv target_ubootdev 1");
            rig.say("UCmd:setenv target_ubootdev 2");
        }
        rig.download(&[9; 600]);
        assert_eq!(rig.say("flash:data"), ["OKAY"]);
        assert_eq!(rig.peek(Area::User, 2048 * 512, 600), [9; 600]);
        // Less than a whole erase group: nothing is erased.
        assert_eq!(rig.say(&format!("erase:{erased}")), ["OKAY"]);
        assert_eq!(rig.peek(Area::User, 2048 * 512, 1), [9]);
        rig.download(&[9; 51_201]);
        assert_eq!(rig.say("flash:data"), ["FAILtoo large for partition"]);
    }
}

proptest::proptest! {
    #[test]
    fn no_request_panics(requests in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80), 0..6), nxp: bool) {
        let mut rig = rig(if nxp { Tree::Nxp } else { Tree::Upstream });
        for request in requests {
            let _ = rig.server.request(&mut rig.machine, &request);
            rig.replies();
        }
    }

    #[test]
    fn no_image_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 28..200), chunk: u16) {
        let mut rig = rig(Tree::Upstream);
        let mut image = image(&[(0xcac1 + chunk % 5, 1, &[1; 4])], 1);
        image.extend(&bytes);
        image[12..28].copy_from_slice(&bytes[..16]);
        image[13] &= 0xf0;
        rig.download(&image);
        let _ = rig.server.request(&mut rig.machine, b"flash:mmc0");
    }
}
