use std::io::Write;

use super::*;
use crate::emmc::{Area, Defect, Emmc, Geometry, PartConf};
use crate::model::{Model, Tree};
use crate::timing::Timing;

fn machine(tree: Tree) -> Machine {
    let emmc = Emmc::new(Geometry { user_bytes: 64 << 20, ..Geometry::default() });
    let sd = Emmc::new(Geometry { user_bytes: 8 << 20, boot_bytes: 0, ..Geometry::default() });
    Machine::new(Model::Imx8mm, tree, [(2, emmc), (1, sd)].into(), Timing::default())
}

/// Statuses of lines, run one after the other.
fn statuses(machine: &mut Machine, lines: &[&str]) -> Vec<i32> {
    lines.iter().map(|line| run(machine, line).unwrap()).collect()
}

fn said(line: &str) -> String {
    let mut machine = machine(Tree::Nxp);
    run(&mut machine, line).unwrap();
    machine.console().to_owned()
}

#[test]
fn words_quotes_and_variables() {
    assert_eq!(said("setenv a 'x  y'; echo $a \"$a\" '$a' \\$a ${a}z"), "x y x  y $a $a x yz\n");
    assert_eq!(said("echo ${none}|| true"), "\n");
    assert_eq!(said("echo a${none:-b}c; v=7; echo $v; false; echo $?"), "abc\n7\n1\n");
    assert_eq!(said("echo \"\" b # comment; echo no"), " b\n");
    assert_eq!(said("echo one;; echo two\necho three"), "one\ntwo\nthree\n");
    assert_eq!(said("echo it$; echo \"a\\nb\""), "it$\na\\nb\n");
}

#[test]
fn joins_go_from_left_to_right() {
    assert_eq!(said("true && echo a || echo b; false && echo c || echo d"), "a\nd\n");
    let mut machine = machine(Tree::Nxp);
    let lines =
        ["false; true", "true && false", "false || true", "nonsense", "true &&", "a | b", "if true; then", "fi"];
    assert_eq!(statuses(&mut machine, &lines), [0, 1, 0, 1, 1, 1, 1, 1]);
    assert_eq!(run(&mut machine, &"if true; then ".repeat(40)), Ok(1));
}

#[test]
fn conditions() {
    assert_eq!(said("if false; then echo a; elif true; then echo b; else echo c; fi; echo d"), "b\nd\n");
    // As uuu's built-in script has it, with an empty branch.
    let line = "if env exists emmc_ack; then ; else setenv emmc_ack 0; fi;";
    let mut machine = machine(Tree::Nxp);
    assert_eq!(run(&mut machine, line), Ok(0));
    assert_eq!(machine.env("emmc_ack"), Some("0"));
    machine.set_env("emmc_ack", "1");
    assert_eq!(run(&mut machine, line), Ok(0));
    assert_eq!(machine.env("emmc_ack"), Some("1"));
    let lines = [
        "test -n a",
        "test -z \"\"",
        "test ! -z \"\"",
        "test a = a -a b = c",
        "test a = b -o b != c",
        "test 10 -gt 9",
        "test 0x10 -eq 16",
        "test",
        "test a",
        "itest 10 == 0x10",
        "itest a -gt 9",
        "itest.s abc == abc",
        "itest.b 1ff == ff",
    ];
    assert_eq!(statuses(&mut machine, &lines), [0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0]);
    assert_eq!(statuses(&mut machine, &["mw.l 40400000 12345678", "itest *40400000 == 12345678"]), [0, 0]);
}

#[test]
fn expressions() {
    let mut machine = machine(Tree::Nxp);
    let lines = [
        "setexpr a 10 + f",
        "setexpr b ${a} * 2; mw.w 40400000 1234",
        "setexpr.w c *40400000 % 100",
        "setexpr d ff",
        "setexpr e 5 / 0",
        "setexpr f 5 <> 0",
        "setexpr",
    ];
    assert_eq!(statuses(&mut machine, &lines), [0, 0, 0, 0, 0, 1, 1]);
    let values: Vec<_> = ["a", "b", "c", "d", "e"].iter().map(|name| machine.env(name).unwrap()).collect();
    assert_eq!(values, ["1f", "3e", "34", "ff", "0"]);
}

#[test]
fn known_answers_that_probes_use() {
    let mut nxp = machine(Tree::Nxp);
    let lines = ["mw.l 40400000 34333231;crc32 -v 40400000 4 9be3e0a3", "crc32 -v 40400000 4 9be3e0a4"];
    assert_eq!(statuses(&mut nxp, &lines), [0, 1]);
    assert_eq!(run(&mut nxp, "hash crc32 40400000 4 fastboot.p"), Ok(0));
    assert_eq!(nxp.env("fastboot.p"), Some("9be3e0a3"));
    assert_eq!(
        run(
            &mut nxp,
            "hash sha256 40400000 4 h; test \"$h\" = 03ac674216f3e15c761ee1a5e255f067953623c8b388b4459e13f978d7c846f4"
        ),
        Ok(0)
    );
    assert_eq!(run(&mut nxp, "hash sha1 40400000 4 h; test \"$h\" = 7110eda4d09e062aa5e4a390b0a572ac0d2c0220"), Ok(0));
    assert_eq!(
        statuses(&mut nxp, &["hash -v sha256 40400000 4 h", "hash md4 40400000 4", "help mmc", "lzmadec"]),
        [1; 4]
    );
    // Upstream's kits have no crc32 command, but crc32 in hash.
    let mut upstream = machine(Tree::Upstream);
    assert_eq!(statuses(&mut upstream, &lines), [1, 1]);
    assert_eq!(run(&mut upstream, "hash crc32 40400000 4 fastboot.p"), Ok(0));
    assert_eq!(run(&mut upstream, "hash crc32 40400000 4 *40400010; itest *40400010 == a3e0e39b"), Ok(0));
}

#[test]
fn blocks_of_cards() {
    let mut machine = machine(Tree::Nxp);
    let lines = [
        "mw.b 42800000 5a 400",
        "mmc dev 2 0",
        "mmc write 42800000 10 2",
        "mmc read 44000000 10 2",
        "cmp.b 42800000 44000000 400",
        "mw.b 440003ff 0",
        "cmp.b 42800000 44000000 400",
        "mmc write 42800000 1ffff 2",
        "mmc dev 0",
        "mmc dev x",
        "mmc dev 1 1",
        "mmc write 42800000 10",
    ];
    assert_eq!(statuses(&mut machine, &lines), [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
    assert_eq!(machine.cards[&2].peek(Area::User, 0x2000, 1024).unwrap(), [0x5a; 1024]);
    // An unset variable selects nothing: what is current stays so.
    assert_eq!(statuses(&mut machine, &["mmc dev 2 1", "mmc dev ${nothing}", "mmc write 42800000 0 1"]), [0; 3]);
    assert_eq!(machine.cards[&2].peek(Area::Boot0, 0, 512).unwrap(), [0x5a; 512]);
    machine.cards.get_mut(&2).unwrap().add_defect(Area::User, 5..6, Defect::Write);
    assert_eq!(statuses(&mut machine, &["mmc dev 2; mmc write 42800000 4 2 && mmc write 42800000 8 2"]), [1]);
    assert_eq!(machine.cards[&2].peek(Area::User, 8 * 512, 1).unwrap(), [0]);
}

#[test]
fn what_the_table_says_of_partitions() {
    let mut machine = machine(Tree::Nxp);
    let table = crate::sample::gpt(131_072, &[("boot", 2048, 100), ("my data", 4096, 8)]);
    assert!(machine.cards.get_mut(&2).unwrap().poke(Area::User, 0, &table));
    let lines = [
        "part start mmc 2 boot fastboot.s",
        "part size mmc 2 boot fastboot.n",
        "part start mmc 2 2 two",
        "part start mmc 2 \"my data\" data",
        "part start mmc 2 none x",
        "part start mmc 2 my data x",
        "part start mmc 0 boot x",
        "part start mmc 1 boot x",
        "part list mmc 2",
    ];
    assert_eq!(statuses(&mut machine, &lines), [0, 0, 0, 0, 1, 1, 1, 1, 1]);
    let values: Vec<_> =
        ["fastboot.s", "fastboot.n", "two", "data"].iter().map(|name| machine.env(name).unwrap()).collect();
    assert_eq!(values, ["800", "64", "1000", "1000"]);
    assert_eq!(machine.env("x"), None);
    machine.part = false;
    assert_eq!(statuses(&mut machine, &lines[..1]), [1]);
}

#[test]
fn the_boot_switch() {
    let mut machine = machine(Tree::Nxp);
    assert_eq!(
        statuses(&mut machine, &["mmc partconf 2 1 1 0", "mmc partconf 2 fastboot.bp", "mmc partconf 2"]),
        [0; 3]
    );
    assert_eq!(machine.env("fastboot.bp"), Some("1"));
    assert_eq!(machine.cards[&2].partconf(), PartConf { ack: true, boot: 1, access: 0 });
    assert_eq!(
        statuses(&mut machine, &["mmc partconf 1 0 1 0", "mmc partconf 2 0 8 0", "mmc bootbus 2 2 1 0"]),
        [1, 1, 0]
    );
    assert_eq!(run(&mut machine, "mmc rst-function 2 1"), Ok(1));
    assert_eq!(machine.one_way, ["mmc rst-function 2 1"]);
}

#[test]
fn erasing_differs_by_tree() {
    for (tree, left) in [(Tree::Nxp, 0), (Tree::Upstream, 7)] {
        let mut machine = machine(tree);
        machine.cards.get_mut(&2).unwrap().poke(Area::User, 0, &[7; 4096]);
        assert_eq!(run(&mut machine, "mmc dev 2; mmc erase 1 1"), Ok(0));
        assert_eq!(machine.cards[&2].peek(Area::User, 0, 1), Some(vec![left]));
        assert_eq!(machine.cards[&2].peek(Area::User, 512, 1), Some(vec![0]));
    }
    let mut slow = machine(Tree::Upstream);
    slow.timing.erase_group = std::time::Duration::from_millis(20);
    assert_eq!(
        statuses(&mut slow, &["mmc dev 2; mmc erase 0 c800", "mmc erase 0 c400", "mmc erase 0 40000"]),
        [0, 0, 1]
    );
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn gzip_to_card_and_memory() {
    let plain: Vec<u8> = (0..3_000_100u32).map(|n| u8::try_from(n / 7 % 251).unwrap()).collect();
    let packed = gzip(&plain);
    let mut machine = machine(Tree::Nxp);
    machine.ram.write(0x4280_0001, &packed).unwrap();
    let line = format!("gzwrite mmc 2 42800001 {:x} 400000 2000", packed.len());
    assert_eq!(run(&mut machine, &line), Ok(0));
    assert!(machine.cards[&2].peek(Area::User, 0x2000, plain.len()).unwrap() == plain);
    assert_eq!(machine.cards[&2].peek(Area::User, 0x2000 + 3_000_100, 220).unwrap(), [0; 220]);
    assert_eq!(run(&mut machine, "unzip 42800001 50000000; echo $filesize"), Ok(0));
    assert!(machine.ram.bytes(0x5000_0000, plain.len()).unwrap() == plain);
    assert_eq!(machine.env("filesize"), Some("2dc724"));
    let len = packed.len();
    for line in [
        format!("gzwrite mmc 2 42800001 {len:x} 400000 2001"),
        format!("gzwrite mmc 2 42800001 {:x}", len - 1),
        format!("gzwrite mmc 1 42800001 {len:x} 100000 700000"),
        format!("gzwrite mmc 1.1 42800001 {len:x}"),
        format!("gzwrite mmc 2 42800002 {len:x}"),
        format!("gzwrite mmc 2 42800001 {len:x} 100000 0 5"),
        "gzwrite mmc 2 42800001 0".to_owned(),
        "unzip 42800001 50000000 1000".to_owned(),
        "unzip 42800002 50000000".to_owned(),
    ] {
        assert_eq!(run(&mut machine, &line), Ok(1), "{line}");
    }
    // A card that fails goes unnoticed; a broken stream does not.
    machine.cards.get_mut(&2).unwrap().add_defect(Area::User, 0..8, Defect::Write);
    assert_eq!(run(&mut machine, &format!("gzwrite mmc 2 42800001 {len:x}")), Ok(0));
    machine.ram.write(0x4280_0001 + 4000, &[0xff; 40]).unwrap();
    assert_eq!(run(&mut machine, &format!("gzwrite mmc 2 42800001 {len:x}")), Ok(1));
}

/// A frame of independent blocks, made by hand: "abcdefgh" and twelve times "a", then one block as it is.
const LZ4: &[u8] = &[
    0x04, 0x22, 0x4d, 0x18, 0x60, 0x40,
    0x82, // Header: version 1, independent, 64 KiB; header checksum (not checked).
    17, 0, 0, 0, // The first block's length.
    0x80, b'a', b'b', b'c', b'd', b'e', b'f', b'g', b'h', 8, 0, // Eight letters, then four of them again.
    0x50, b'v', b'w', b'x', b'y', b'z', // Five letters end a block.
    3, 0, 0, 0x80, b'1', b'2', b'3', // As it is.
    0, 0, 0, 0,
];

#[test]
fn lz4_to_memory() {
    let mut machine = machine(Tree::Nxp);
    machine.ram.write(0x4280_0000, LZ4).unwrap();
    assert_eq!(run(&mut machine, "unlz4 42800000 50000000 14"), Ok(0));
    assert_eq!(machine.ram.bytes(0x5000_0000, 21).unwrap(), b"abcdefghabcdvwxyz123\0");
    assert_eq!(machine.env("filesize"), Some("14"));
    assert_eq!(run(&mut machine, "unlz4 42800000 50000000 13"), Ok(1));
    machine.ram.write(0x4280_0004, &[0x40]).unwrap();
    assert_eq!(run(&mut machine, "unlz4 42800000 50000000 1000"), Ok(1));
    assert!(machine.console().contains("-93"));
}

#[test]
fn bad_addresses_end_uboot() {
    let mut machine = machine(Tree::Nxp);
    for line in ["mw 0 0", "crc32 40000000 ffffffff", "mmc read bff00000 0 8", "cmp.b 0 40000000 1", "unzip 0 40000000"]
    {
        assert!(run(&mut machine, line).is_err(), "{line}");
    }
    assert_eq!(run(&mut machine, "mw.b be000000 0 1"), Err(Halt::Overwritten(0xbe00_0000)));
    assert_eq!(run(&mut machine, "crc32 40000000 0"), Ok(0));
}

#[test]
fn lines_and_recursion_end() {
    let mut machine = machine(Tree::Nxp);
    assert_eq!(run(&mut machine, &format!("echo {}", "x".repeat(4090))), Ok(0));
    assert_eq!(run(&mut machine, &format!("echo {}", "x".repeat(4091))), Ok(1));
    assert_eq!(run(&mut machine, &"a ".repeat(65)), Ok(1));
    machine.set_env("again", "run again");
    assert_eq!(run(&mut machine, "run again"), Ok(1));
    machine.set_env("long", &"y".repeat(4000));
    assert_eq!(run(&mut machine, &format!("echo {}", "${long}".repeat(60))), Ok(1));
}

proptest::proptest! {
    #[test]
    fn no_line_panics(line in "[-a-z0-9 ;&|$'\"\\\\{}=.*#\n]{0,80}") {
        let _ = run(&mut machine(Tree::Nxp), &line);
    }

    #[test]
    fn no_sentence_panics(words in proptest::collection::vec(proptest::sample::select(vec![
        "if", "then", "else", "fi", ";", "&&", "||", "mmc", "write", "read", "erase", "dev", "partconf", "2", "40400000",
        "ffffffffffffffff", "1000", "unlz4", "unzip", "gzwrite", "crc32", "-v", "hash", "sha256", "cmp.b", "mw.q", "cp.w",
        "$loadaddr", "${x}", "x=1", "test", "itest", "!", "-n", "=", "run", "setenv", "env", "exists", "*40400000",
    ]), 0..14)) {
        let _ = run(&mut machine(Tree::Nxp), &words.join(" "));
    }
}
