#!/usr/bin/env python3
"""Makes the boot images in this folder anew, and says how other readers see them.

    python3 -m venv /tmp/spsdk && /tmp/spsdk/bin/pip install spsdk==3.12.0
    /tmp/spsdk/bin/python make.py make             # all of them, and readings.json
    /tmp/spsdk/bin/python make.py read             # reads them again, prints readings.json
    /tmp/spsdk/bin/python make.py sweep FOLDER     # an image for every chip SPSDK knows, with its readings

Needs mkimage (Debian's u-boot-tools) in the path. The real images are those of Debian's u-boot-imx for armhf; `make`
takes them from the folder in U_BOOT_IMX (the package's /usr/lib/u-boot; see fetch-u-boot-imx), and keeps the old ones
without it.
"""

import gzip
import hashlib
import json
import logging
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

logging.disable(logging.CRITICAL)

HERE = Path(__file__).resolve().parent


def pattern(length):
    """Bytes that are no code: a counting pattern."""
    return bytes((7 * i + length + i // 256) % 251 for i in range(length))


PAYLOADS = {"spl.bin": 3000, "uboot.bin": 5000, "scfw.bin": 1500, "seco.bin": 700}


# --- mkimage -------------------------------------------------------------------------------------------------------


def mkimage(folder, out, kind, config, *options, data="spl.bin"):
    (folder / "config").write_text("\n".join(config) + "\n")
    command = ["mkimage", "-n", "config", "-T", kind, *options, "-d", data, out]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


FIT = """/dts-v1/;
/ {
  description = "a counting pattern"; #address-cells = <1>;
  images { uboot { description = "U-Boot"; data = /incbin/("uboot.bin"); type = "standalone"; arch = "arm64";
    compression = "none"; load = <0x40200000>; hash { algo = "sha256"; }; }; };
  configurations { default = "conf"; conf { description = "board"; firmware = "uboot"; }; };
};
"""

IMX6 = ["IMAGE_VERSION 2", "BOOT_FROM sd", "DATA 4 0x020c4068 0x00C03F3F", "DATA 4 0x020c406c 0x0030FC03"]
QXP = ["BOOT_FROM SD 0x400", "SOC_TYPE IMX8QX"]


def by_mkimage(folder):
    """Name -> how it is made, in the order they are made in."""
    first, entry = "imximage", ("-e", "0x27800000")
    mkimage(folder, "imx6.imx", first, IMX6, *entry, data="uboot.bin")
    mkimage(folder, "imx6-csf.imx", first, [*IMX6, "CSF 0x2000"], *entry, data="uboot.bin")
    mkimage(folder, "imx6-plugin.imx", first, [*IMX6[:2], "PLUGIN scfw.bin 0x00907000"], *entry, data="uboot.bin")
    imx7 = ["IMAGE_VERSION 2", "BOOT_FROM sd", "DATA 4 0x30340004 0x4F400005", "CHECK_BITS_SET 4 0x30391000 0x2"]
    mkimage(folder, "imx7.imx", first, imx7, "-e", "0x87800000", data="uboot.bin")
    mkimage(folder, "imx8mm.bin", "imx8mimage",
            ["ROM_VERSION 1", "BOOT_FROM sd", "LOADER spl.bin 0x7E1000"], "-e", "0x7E1000")
    mkimage(folder, "imx8mn.bin", "imx8mimage",
            ["ROM_VERSION 2", "BOOT_FROM sd", "LOADER spl.bin 0x912000"], "-e", "0x912000")
    mkimage(folder, "imx8mp.bin", "imx8mimage",
            ["ROM_VERSION 2", "BOOT_FROM sd", "LOADER spl.bin 0x920000"], "-e", "0x920000")
    (folder / "u-boot.its").write_text(FIT)
    # With the image in the tree, and behind it in the two ways there are.
    for name, options in [("u-boot.itb", []), ("u-boot-offset.itb", ["-E"]), ("u-boot-position.itb", ["-E", "-p", "0x800"])]:
        subprocess.run(["mkimage", *options, "-f", "u-boot.its", name], cwd=folder, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env={**os.environ, "SOURCE_DATE_EPOCH": "0"})
    # Firmware for the HDMI controller as NXP ships it: an image of its own, whose boot data have more than one bit.
    # mkimage leaves out its first KiB.
    hdmi = bytearray(pattern(0x2000))
    hdmi[0x400:0x420] = struct.pack("<8I", 0x412000D1, 0x00912000, 0, 0, 0x00910020, 0x00910000, 0, 0)
    hdmi[0x420:0x42C] = struct.pack("<3I", 0x00910000, 0x2000, 0x1000)
    (folder / "hdmi.bin").write_bytes(hdmi)
    mkimage(folder, "imx8mq-hdmi-fit.bin", "imx8mimage",
            ["FIT", "SIGNED_HDMI hdmi.bin", "ROM_VERSION 1", "BOOT_FROM sd", "LOADER spl.bin 0x7E1000",
             "SECOND_LOADER u-boot-position.itb 0x40200000 0x60000"], "-e", "0x7E1000")
    mkimage(folder, "imx8qxp.bin", "imx8image",
            [*QXP, "CONTAINER", "IMAGE SCU scfw.bin", "IMAGE A35 spl.bin 0x00100000"], "-e", "0x100000")
    (folder / "fw.bin").write_bytes(pattern(0x300))
    # A signature's first bytes where mkimage left room for it.
    signed = bytearray((folder / "imx8mm.bin").read_bytes())
    signed[0xC00:0xC04] = b"\xd4\x00\x04\x43"
    (folder / "imx8mm-csf.bin").write_bytes(signed)
    (folder / "seco.img").write_bytes(firmware(folder, "mimx8qxp", 6, "cortex-a35"))
    (folder / "ele.img").write_bytes(firmware(folder, "mimx9352", 6, "cortex-a55"))
    mkimage(folder, "imx8qxp-seco.bin", "imx8image",
            [*QXP, "APPEND seco.img", "CONTAINER", "IMAGE SCU scfw.bin", "IMAGE A35 spl.bin 0x00100000"],
            "-e", "0x100000")
    mkimage(folder, "imx8qm-seco.bin", "imx8image",
            ["BOOT_FROM EMMC_FASTBOOT 0x400", "SOC_TYPE IMX8QM", "APPEND seco.img", "CONTAINER",
             "IMAGE SCU scfw.bin", "IMAGE A53 spl.bin 0x00100000"], "-e", "0x100000")
    subprocess.run(["mkimage", "-A", "arm", "-T", "firmware", "-O", "u-boot", "-C", "none", "-a", "0x17800000", "-e",
                    "0", "-n", "U-Boot 2023.01 for no board", "-d", "uboot.bin", "u-boot.img"], cwd=folder, check=True,
                   stdout=subprocess.DEVNULL, env={**os.environ, "SOURCE_DATE_EPOCH": "0"})
    return ["imx6.imx", "imx6-csf.imx", "imx6-plugin.imx", "imx7.imx", "imx8mm.bin", "imx8mm-csf.bin", "imx8mn.bin", "imx8mp.bin",
            "u-boot.itb", "u-boot-offset.itb", "u-boot-position.itb", "imx8mq-hdmi-fit.bin", "imx8qxp.bin", "imx8qxp-seco.bin", "imx8qm-seco.bin", "u-boot.img"]


def firmware(folder, family, kind, core, **more):
    """A container as NXP ships it for the chip's security controllers. Nobody else has the key, so one is signed with
    keys of our own, and then made to say NXP."""
    made = bytearray(ahab(folder, family, [container(image("fw.bin", 0xE7FE0000, core), fuse_version=0, sw_version=0,
                                                     **keys(folder, "nxp-", "secp384r1"))], **more))
    made[4] = made[4] & ~3 | 1
    made[16 + 24] = kind | 6 << 4
    return bytes(made)


# --- SPSDK ---------------------------------------------------------------------------------------------------------


def image(path="a.bin", load=0x1FFC0000, core="cortex-a55", kind="executable", entry=None, **more):
    entry = load if entry is None else entry
    return {"image_path": path, "load_address": load, "entry_point": entry, "core_id": core, "image_type": kind, **more}


def container(*images, **more):
    return {"container": {"srk_set": "none", "fuse_version": 1, "sw_version": 2, "images": list(images), **more}}


def spsdk_config(folder, config):
    from spsdk.utils.config import Config

    made = Config(config)
    made.search_paths = [str(folder)]
    made.config_dir = str(folder)
    return made


def ahab(folder, family, containers, revision="latest", **more):
    from spsdk.image.ahab.ahab_image import AHABImage

    config = {"family": family, "revision": revision, "target_memory": "standard", "output": "x.bin",
              "containers": containers, **more}
    made = AHABImage.load_from_config(spsdk_config(folder, config))
    made.update_fields()
    made.verify().validate()
    return made.export()


def keys(folder, name, curve):
    """Four keys, thrown away with the folder."""
    from spsdk.crypto.keys import EccCurve, PrivateKeyEcc

    for n in range(4):
        key = PrivateKeyEcc.generate_key(EccCurve(curve))
        key.save(str(folder / f"{name}{n}.pem"))
        key.get_public_key().save(str(folder / f"{name}{n}.pub"))
    return {"srk_set": "oem", "used_srk_id": 0, "srk_revoke_mask": 0,
            "signer": f"type=file;file_path={folder}/{name}0.pem",
            "srk_table": {"flag_ca": False, "srk_array": [f"{name}{n}.pub" for n in range(4)]}}


def post_quantum(folder):
    """The same with a second set of keys for ML-DSA; None if this SPSDK cannot."""
    from spsdk.crypto.keys import PrivateKeyMLDSA

    signed = keys(folder, "p384-", "secp384r1")
    for n in range(4):
        key = PrivateKeyMLDSA.generate_key(level=3)
        key.save(str(folder / f"ml{n}.pem"))
        key.get_public_key().save(str(folder / f"ml{n}.pub"))
    signed["signer_#2"] = f"type=file;file_path={folder}/ml0.pem"
    signed["srk_table"]["srk_table_#2"] = {"flag_ca": False, "srk_array": [f"ml{n}.pub" for n in range(4)]}
    return signed


def by_spsdk(folder):
    a, b = pattern(3000)[:600], pattern(5000)[:900]
    (folder / "a.bin").write_bytes(a)
    (folder / "b.bin").write_bytes(b)
    spl = image("a.bin")
    second = image("b.bin", 0x2049A000)
    files = {}
    two = [container(spl), container(second)]
    files["imx93.bin"] = ahab(folder, "mimx9352", two)
    m33 = "cortex-m33"
    files["imx95.bin"] = ahab(
        folder, "mimx9596", [container(image(core=m33)), container(image("b.bin", 0x2049A000, m33))],
        container_version=2)
    hashed = {"hash_type": "sha384"}
    files["imx93-signed.bin"] = ahab(
        folder, "mimx9352", [container(image(load=0x2049A000, **hashed), **keys(folder, "p384-", "secp384r1"),
                                       fuse_version=0, sw_version=0)])
    # An encrypted image says so in its flags; how its key is wrapped is the chip's affair.
    (folder / "dek.txt").write_text("00112233445566778899aabbccddeeff")
    (folder / "blob.bin").write_bytes(bytes([0, 72, 0, 0x81, 1, 16, 3, 0]) + pattern(64))
    signed = keys(folder, "p256-", "secp256r1")
    blob = {"key_identifier": 0, "dek_key_size": 128, "dek_key": "dek.txt", "dek_keyblob": "blob.bin"}
    files["imx93-encrypted.bin"] = ahab(
        folder, "mimx9352",
        [container(image(load=0x2049A000, is_encrypted=True), image("b.bin", 0x80200000), **signed, blob=blob)])
    files["imx91.bin"] = ahab(folder, "mimx9131", [container(spl), container(second, second)])
    files["imx8ulp.bin"] = ahab(
        folder, "mimx8ulp",
        [container(image("a.bin", 0x22020000, "cortex-a35-1")), container(image("b.bin", 0x20040000, "cortex-m33"))])
    # For memories that are not read in pages of 1 KiB the images lie elsewhere.
    files["imx8qxp-nand.bin"] = ahab(
        folder, "mimx8qxp", [container(image("a.bin", 0x100000, "cortex-a35"), image("b.bin", 0x100800, "cortex-a35"))],
        target_memory="nand_4k")
    for name, family in [("imx943.bin", "mimx943"), ("imx952.bin", "mimx95294")]:
        files[name] = ahab(folder, family, [container(image(core=m33)), container(image("b.bin", 0x20480000, m33))])
    files["imx95-version1.bin"] = ahab(
        folder, "mimx9596", [container(image(core=m33)), container(image("b.bin", 0x20480000))], revision="a1")
    files["imx95-tag82.bin"] = ahab(
        folder, "mimx9596", [container(image(core=m33), image("b.bin", 0x2049A000, m33))], container_version=1)
    files["imx95-post-quantum.bin"] = ahab(
        folder, "mimx9596", [container(image(core=m33, hash_type="sha384"), **post_quantum(folder))],
        container_version=2)
    return files


def bootable(folder, family, memory, **parts):
    from spsdk.image.bootable_image.bimg import BootableImage

    config = {"family": family, "revision": "latest", "memory_type": memory, "output": "x.bin", "init_offset": 0, **parts}
    made = BootableImage.load_from_config(spsdk_config(folder, config))
    return made.export()


def by_spsdk_bootable(folder):
    """Whole images: SPL's containers, then those of U-Boot proper; with firmware ahead where the chip has that."""
    import yaml
    from spsdk.image.fcb.fcb import FCB
    from spsdk.image.mem_type import MemoryType
    from spsdk.utils.family import FamilyRevision

    files = {}

    def config(name, family, containers, **more):
        made = {"family": family, "revision": "latest", "target_memory": "standard", "output": "x.bin",
                "containers": containers, **more}
        (folder / name).write_text(yaml.safe_dump(made))

    spl = container(image("a.bin", 0x2049A000))
    config("spl93.yaml", "mimx9352", [{"binary_container": {"path": "ele.img"}}, spl])
    config("uboot93.yaml", "mimx9352", [container(image("b.bin", 0x80200000), image("a.bin", 0x204E0000))])
    files["imx93-flash.bin"] = bootable(folder, "mimx9352", "serial_downloader", spl="spl93.yaml", uboot="uboot93.yaml")
    (folder / "fcb.bin").write_bytes(FCB(FamilyRevision("mimx9131"), MemoryType.FLEXSPI_NOR).export())
    config("spl91.yaml", "mimx9131", [{"binary_container": {"path": "ele.img"}}, spl])
    config("uboot91.yaml", "mimx9131", [container(image("b.bin", 0x80200000))])
    files["imx91-flexspi.bin"] = bootable(
        folder, "mimx9131", "flexspi_nor", fcb="fcb.bin", spl="spl91.yaml", uboot="uboot91.yaml")
    # Firmware of i.MX95 B0 on: the security controller's, and V2X firmware in a container with tag 0x82.
    m33 = "cortex-m33"
    ele = firmware(folder, "mimx9596", 6, m33, container_version=2)
    v2x = firmware(folder, "mimx9596", 0xB, m33, container_version=1)
    header, at = v2x[:0x4000].rstrip(b"\0"), len(ele) + 0xFFF & ~0xFFF
    both = bytearray(ele[:0x4000] + header.ljust(0x4000, b"\0") + ele[0x8000:]).ljust(at, b"\0") + pattern(0x300)
    both[0x4010:0x4014] = struct.pack("<I", at - 0x4000)
    (folder / "ele95.img").write_bytes(both)
    config("spl95.yaml", "mimx9596",
           [{"binary_container": {"path": "ele95.img"}}, container(image("a.bin", 0x1FFC0000, m33))])
    config("uboot95.yaml", "mimx9596", [container(image("b.bin", 0x90200000, "cortex-a55"))])
    files["imx95-flash.bin"] = bootable(folder, "mimx9596", "serial_downloader", spl="spl95.yaml", uboot="uboot95.yaml")
    return files


def hab(folder, family, **more):
    from spsdk.image.hab.hab_image import HabImage

    options = {"flags": 0, "startAddress": 0x60000000, "ivtOffset": 0x1000, "initialLoadSize": 0x2000,
               "entryPointAddress": 0x60002001, "family": family, **more}
    config = spsdk_config(folder, {"options": options, "inputImageFile": "app.bin", "sections": []})
    return HabImage.load_from_config(config).export()


def by_spsdk_hab(folder):
    (folder / "app.bin").write_bytes(struct.pack("<II", 0x20010000, 0x60002101) + pattern(2000))
    (folder / "dcd.bin").write_bytes(bytes.fromhex("d2001041cc000c04400fc068ffffffff"))
    return {
        "rt1060.bin": hab(folder, "mimxrt1060"),
        "rt1060-dcd.bin": hab(folder, "mimxrt1060", DCDFilePath="dcd.bin"),
        "rt1176.bin": hab(folder, "mimxrt1176", startAddress=0x30000000, entryPointAddress=0x30002001),
    }


# --- real images ---------------------------------------------------------------------------------------------------


def real(source):
    """Debian's images with everything blanked but what readers look at: small, and no code of U-Boot's in them."""
    files, notes = {}, {}
    # novena-rawsd is the same as novena.
    source = [folder for folder in source.iterdir() if folder.name != "novena-rawsd"]
    names = [path for folder in sorted(source) for kind in ("*.imx", "SPL", "u-boot.img") for path in folder.glob(kind)]
    for path in names:
        whole = path.read_bytes()
        kept = bytearray(len(whole))
        places = []
        for at in range(0, len(whole) - 64, 4):
            word = whole[at:at + 4]
            if word in (b"\xd1\x00\x20\x40", b"\xd1\x00\x20\x41"):
                places.append((at, 0x400))
            elif word == b"\x27\x05\x19\x56":
                places.append((at, 64))
            elif word == b"\xd0\x0d\xfe\xed":
                places.append((at, min(struct.unpack(">I", whole[at + 4:at + 8])[0], 0x1000)))
        for at, length in places:
            kept[at:at + length] = whole[at:at + length]
        name = f"debian-{path.parent.name}-{path.name}"
        files[name] = bytes(kept)
        notes[name] = hashlib.sha256(whole).hexdigest()
    return files, notes


# --- readings ------------------------------------------------------------------------------------------------------


def family_of(name):
    """Which chip SPSDK is told an image is for."""
    for start, family in [
        ("imx93", "mimx9352"), ("imx95-version1", "mimx9596:a1"), ("imx952", "mimx95294"), ("imx95", "mimx9596"),
        ("imx91", "mimx9131"), ("imx8ulp", "mimx8ulp"), ("imx943", "mimx943"), ("imx8qxp", "mimx8qxp"),
        ("imx8qm", "mimx8qm"), ("rt1060", "mimxrt1060"), ("rt1176", "mimxrt1176"),
    ]:
        if name.startswith(start):
            return family
    return None


def number(value):
    """Of a name that SPSDK gives some values on some chips."""
    return int(getattr(value, "tag", value))


def read_ahab(made, at=0):
    """What SPSDK found, in numbers. Offsets of images are from their container's start, as they are stored."""
    found = []
    for one in made.ahab_containers:
        start = at + one.chip_config.container_offset
        found.append({
            "at": start, "tag": one.tag, "version": one.version, "length": one.header_length(), "flags": one.flags,
            "signed_by": one.flag_srk_set.label, "software_version": one.sw_version, "fuse_version": one.fuse_version,
            "images": [{
                "offset": entry._image_offset, "length": entry.image_size, "load": entry.load_address,
                "entry": entry.entry_point, "flags": entry.flags, "type": number(entry.flags_image_type),
                "core": number(entry.flags_core_id), "encrypted": bool(entry.flags_is_encrypted),
            } for entry in one.image_array],
        })
    return found


def segment_size(kind, data):
    """Of a segment of an image with vector table; None if that names none, or nothing like it is there."""
    from spsdk.exceptions import SPSDKError

    try:
        return kind.parse(data).size
    except SPSDKError:
        return None


def read_by_spsdk(data, name, family):
    from spsdk.exceptions import SPSDKError
    from spsdk.image.ahab.ahab_image import AHABImage
    from spsdk.image.bootable_image.bimg import BootableImage
    from spsdk.image.hab.segments.seg_bdt import HabSegmentBDT
    from spsdk.image.hab.segments.seg_csf import HabSegmentCSF
    from spsdk.image.hab.segments.seg_dcd import HabSegmentDcd
    from spsdk.image.hab.segments.seg_ivt import HabSegmentIvt
    from spsdk.image.mem_type import MemoryType
    from spsdk.utils.family import FamilyRevision

    reading = {}
    chip = FamilyRevision(*family.split(":")) if family else None
    if chip and not family.startswith("mimxrt"):
        if name.endswith(("-flash.bin", "-flexspi.bin")):
            memory = MemoryType.FLEXSPI_NOR if "flexspi" in name else MemoryType.SERIAL_DOWNLOADER
            # With errors: the firmware ahead is not signed with NXP's key.
            whole = BootableImage._parse_all(data, chip, memory, no_errors=False)[0]
            sets = []
            for segment in whole.segments:
                at = whole.get_segment_offset(segment)
                if hasattr(segment, "ahab"):
                    sets.append(read_ahab(segment.ahab, at))
                else:
                    reading.setdefault("segments", []).append({"name": segment.NAME.label, "at": at})
            reading["sets"] = sets
        else:
            reading["sets"] = [read_ahab(AHABImage.parse(data, chip))]
        return reading
    tables = []
    for at in range(0, len(data) - 31, 4):
        if data[at:at + 4] not in (b"\xd1\x00\x20\x40", b"\xd1\x00\x20\x41", b"\xd1\x00\x20\x43"):
            continue
        # By segments: its reader of whole images takes those for RT only.
        try:
            ivt, boot = HabSegmentIvt.parse(data[at:]), HabSegmentBDT.parse(data[at:])
        except SPSDKError as error:
            tables.append({"at": at, "refused": str(error)})
            continue
        tables.append({
            "at": at, "version": data[at + 3], "entry": ivt.app_address, "dcd": ivt.dcd_address,
            "boot_data": ivt.bdt_address, "address": ivt.ivt_address, "csf": ivt.csf_address,
            "start": boot.app_start, "length": boot.app_length, "plugin": boot.bdt.plugin,
            "dcd_length": segment_size(HabSegmentDcd, data[at:]),
            "signed": segment_size(HabSegmentCSF, data[at:]) is not None,
        })
    if tables:
        reading["tables"] = tables
    return reading


def read_by_dumpimage(path):
    """The lines of `dumpimage -l` that name a number, as it prints them."""
    done = subprocess.run(["dumpimage", "-l", str(path)], capture_output=True, text=True)
    # What it has no reader for it takes for an image of another maker ("GP Header").
    lines = [line.strip() for line in done.stdout.splitlines()]
    known = done.returncode == 0 and lines and not lines[0].startswith("GP Header")
    return [line for line in lines if re.search(r"\d", line) and "Created" not in line] if known else []


def stored(path):
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def read_all(folder):
    readings = {}
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".gz", ".bin", ".imx", ".img", ".itb"):
            continue
        name = path.name.removesuffix(".gz")
        data = stored(path)
        reading = read_by_spsdk(data, name, family_of(name))
        with tempfile.NamedTemporaryFile(suffix=name) as file:
            file.write(data)
            file.flush()
            lines = read_by_dumpimage(file.name)
        if lines:
            reading["dumpimage"] = lines
        readings[path.name] = reading
    return readings


def tools():
    import spsdk

    version = subprocess.run(["mkimage", "-V"], capture_output=True, text=True, check=True).stdout.strip()
    return {"mkimage": version, "spsdk": str(spsdk.version)}


def make(folder):
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        for name, length in PAYLOADS.items():
            (work / name).write_bytes(pattern(length))
        files = {name: (work / name).read_bytes() for name in by_mkimage(work)}
        files.update(by_spsdk(work))
        files.update(by_spsdk_bootable(work))
        files.update(by_spsdk_hab(work))
    notes = {}
    source = os.environ.get("U_BOOT_IMX")
    if source:
        images, notes = real(Path(source))
        files.update(images)
    for name, data in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data, 9, mtime=0))
    if notes:
        text = "".join(f"{digest}  {name}\n" for name, digest in sorted(notes.items()))
        (folder / "debian.sha256").write_text(text)
    write_readings(folder / "readings.json", read_all(folder))


def write_readings(path, readings):
    path.write_text(json.dumps({"tools": tools(), "readings": readings}, indent=1, sort_keys=True) + "\n")


# --- every chip ----------------------------------------------------------------------------------------------------


def sweep(folder):
    """An image of each kind for each chip that SPSDK makes containers for."""
    from spsdk.exceptions import SPSDKError
    from spsdk.image.ahab.ahab_image import AHABImage

    readings = {}
    with tempfile.TemporaryDirectory() as work:
        work = Path(work)
        (work / "a.bin").write_bytes(pattern(600))
        (work / "b.bin").write_bytes(pattern(900))
        for chip in AHABImage.get_supported_families():
            probe = AHABImage(family=chip)
            cores = [core.label for core in probe.chip_config.core_ids]
            core = next(core for core in cores if core.startswith("cortex"))
            for version in probe.chip_config.container_types:
                images = [image("a.bin", 0x20480000, core), image("b.bin", 0x20490000, core, "data")]
                containers = [container(images[0]), container(*images, sw_version=7)]
                more = {}
                if len(probe.chip_config.container_types) > 1:
                    more = {"container_version": version}
                    # Of version 1 where there is a 2, SPSDK 3.12 cannot place the images of a second one.
                    containers = containers[:1] if version == 1 else containers
                name = f"{chip.name}-{chip.revision}-v{version}.bin"
                try:
                    data = ahab(work, chip.name, containers, revision=chip.revision, **more)
                except SPSDKError as error:
                    print(f"not made: {name}: {str(error).splitlines()[0]}", file=sys.stderr)
                    continue
                (folder / name).write_bytes(data)
                readings[name] = read_by_spsdk(data, name, f"{chip.name}:{chip.revision}")
        source = os.environ.get("U_BOOT_IMX")
        for path in sorted(Path(source).glob("*/*")) if source else []:
            if path.suffix != ".elf":
                data = path.read_bytes()
                name = f"debian-{path.parent.name}-{path.name}"
                (folder / name).write_bytes(data)
                readings[name] = read_by_spsdk(data, name, None)
                lines = read_by_dumpimage(path)
                if lines:
                    readings[name]["dumpimage"] = lines
    write_readings(folder / "readings.json", readings)


def main():
    match sys.argv[1:]:
        case ["make"]:
            make(HERE)
        case ["make", folder]:
            make(Path(folder))
        case ["read"]:
            print(json.dumps(read_all(HERE), indent=1, sort_keys=True))
        case ["sweep", folder]:
            sweep(Path(folder))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
