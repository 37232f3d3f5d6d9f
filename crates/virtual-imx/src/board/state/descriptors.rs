//! What a board tells of itself on the bus, stage by stage.

use super::{Program, State};
use crate::board::{Device, Endpoint, Kind, Speed, Stage};
use crate::model::{self, Model, RomKind, Tree};

impl State {
    /// Both are the number in the fuses: U-Boot writes it in small letters, the ROM here in capitals (what real ROMs
    /// write is not on record).
    pub(super) fn serial(&self, stage: Stage) -> String {
        let uid = self.setup.uid;
        match &self.serial {
            Some(serial) => serial.clone(),
            None if stage == Stage::Rom => format!("{uid:016X}"),
            None => format!("{uid:016x}"),
        }
    }

    /// Is what runs on the faster side of the connector? A board that was plugged in elsewhere has lost it.
    fn is_super(&self) -> bool {
        self.stage == Stage::UBoot && self.setup.super_speed.is_some() && self.path == self.setup.path
    }

    pub(in crate::board) fn device(&self) -> Option<Device> {
        if !self.on_the_bus() {
            return None;
        }
        let (model, tree) = (self.setup.model, self.setup.tree);
        let endpoint = |address, kind, packet| Endpoint { address, kind, packet };
        let hid_in = endpoint(0x81, Kind::Interrupt, 64);
        let (ids, strings, class, endpoints) = match self.stage {
            Stage::Rom => {
                let mut endpoints = vec![hid_in];
                if model.has_out_endpoint() {
                    endpoints.push(endpoint(0x01, Kind::Interrupt, 1024));
                }
                (model.rom_ids(), ["NXP SemiConductor Inc", rom_product(model)], [3, 0, 0], endpoints)
            }
            Stage::Loader => (tree.loader_ids(), ["FSL", "USB download gadget"], [3, 0, 0], vec![hid_in]),
            Stage::Fbk => {
                let endpoints = vec![endpoint(0x81, Kind::Bulk, 512), endpoint(0x02, Kind::Bulk, 512)];
                (model::fbk_ids(), ["NXP", "i.MX"], [0xff, 0, 0], endpoints)
            }
            Stage::UBoot | Stage::Running => {
                let packet = if self.is_super() { 1024 } else { 512 };
                // NXP's own client needs the IN endpoint first.
                let endpoints = vec![endpoint(0x81, Kind::Bulk, packet), endpoint(0x01, Kind::Bulk, packet)];
                (tree.fastboot_ids(), ["FSL", "USB download gadget"], [0xff, 0x42, 3], endpoints)
            }
        };
        let serial = match (&self.program, tree) {
            (Program::UBoot(machine, _), Tree::Upstream) => machine.env("serial#").map(str::to_owned),
            (Program::UBoot(..), Tree::Nxp) | (Program::Fbk(..), _) => Some(self.serial(Stage::UBoot)),
            _ => None,
        };
        let string4 = (self.stage == Stage::Rom).then(|| self.serial(Stage::Rom));
        let (speed, path) = match &self.setup.super_speed {
            Some(path) if self.is_super() => (Speed::Super, path.clone()),
            _ => (Speed::High, self.path.clone()),
        };
        let report_payload = match self.stage {
            Stage::Rom => u16::try_from(model.report_payload()).unwrap_or(0),
            _ => 1024,
        };
        let (address, connector) = (self.address, self.path.clone());
        Some(Device {
            address,
            path,
            connector,
            speed,
            report_payload,
            ids,
            serial,
            string4,
            strings,
            class,
            endpoints,
        })
    }
}

fn rom_product(model: Model) -> &'static str {
    match model.rom() {
        RomKind::SdpIvt => "SE Blank ARIK",
        _ => "SE Blank",
    }
}
