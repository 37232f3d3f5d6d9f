//! What a device says it has: interfaces and endpoints, from the bytes of its descriptors; and which of them are for us.
//!
//! Any bytes may come: they are the device's. Source: USB 2.0 specification, chapter 9.

use crate::bus::FASTBOOT_CLASS;

const CONFIGURATION: u8 = 2;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;

/// The bit of an endpoint's address that says "in".
const IN: u8 = 0x80;

/// Where boot ROMs send their reports from, should they not say so.
const REPORTS_IN: u8 = 0x81;
const REPORTS_IN_PACKET: u16 = 64;

/// An alternate setting of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Number of the interface.
    pub interface: u8,
    /// Number of the setting; 0 is in use until another is chosen.
    pub alternate: u8,
    /// Class, subclass and protocol.
    pub class: [u8; 3],
    /// In the order in which they are listed.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Its number, and 0x80 if bytes come from the device.
    pub address: u8,
    /// What kind of transfers it takes.
    pub kind: Kind,
    /// Bytes in its packets, at least 1.
    pub packet: u16,
}

/// A kind of transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Control.
    Control,
    /// Isochronous.
    Isochronous,
    /// Bulk.
    Bulk,
    /// Interrupt.
    Interrupt,
}

impl Endpoint {
    /// Do bytes come from the device?
    pub fn is_in(&self) -> bool {
        self.address & IN != 0
    }
}

/// The settings of the configuration with this value, as listed. `descriptors` is the device descriptor and all of its
/// configurations, as sysfs and usbfs give them. What makes no sense is left out.
pub fn settings(descriptors: &[u8], configuration: u8) -> Vec<Setting> {
    let (mut found, mut inside) = (Vec::<Setting>::new(), false);
    let mut rest = descriptors;
    while let &[length, kind, ..] = rest {
        let Some((one, tail)) = rest.split_at_checked(usize::from(length)).filter(|_| length >= 2) else { break };
        rest = tail;
        match (kind, one) {
            (CONFIGURATION, &[_, _, _, _, _, value, ..]) => inside = value == configuration,
            (INTERFACE, &[_, _, interface, alternate, _, class, subclass, protocol, ..]) if inside => {
                found.push(Setting { interface, alternate, class: [class, subclass, protocol], endpoints: Vec::new() });
            }
            (ENDPOINT, &[_, _, address, attributes, low, high, ..]) if inside => {
                let kind = match attributes & 3 {
                    0 => Kind::Control,
                    1 => Kind::Isochronous,
                    2 => Kind::Bulk,
                    _ => Kind::Interrupt,
                };
                let packet = (u16::from_le_bytes([low, high]) & 0x7ff).max(1);
                if let Some(setting) = found.last_mut() {
                    setting.endpoints.push(Endpoint { address, kind, packet });
                }
            }
            _ => {}
        }
    }
    found
}

/// The endpoints of a bulk pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkPair {
    /// Number of their interface.
    pub interface: u8,
    /// To the device.
    pub out: Endpoint,
    /// From the device.
    pub input: Endpoint,
}

/// The bulk endpoints of the fastboot interface, or of interface 0 if none is of that class; whatever their order.
///
/// # Errors
/// What is missing, in words.
pub fn bulk_pair(settings: &[Setting]) -> Result<BulkPair, &'static str> {
    let mut first = settings.iter().filter(|setting| setting.alternate == 0);
    let setting = first
        .clone()
        .find(|setting| setting.class == FASTBOOT_CLASS)
        .or_else(|| first.find(|setting| setting.interface == 0))
        .ok_or("interface for fastboot")?;
    let mut bulk = setting.endpoints.iter().copied().filter(|endpoint| endpoint.kind == Kind::Bulk);
    let out = bulk.clone().find(|endpoint| !endpoint.is_in()).ok_or("bulk OUT endpoint")?;
    let input = bulk.find(Endpoint::is_in).ok_or("bulk IN endpoint")?;
    Ok(BulkPair { interface: setting.interface, out, input })
}

/// The endpoints for reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportEndpoints {
    /// Number of their interface.
    pub interface: u8,
    /// To the device; `None` if it lists none.
    pub out: Option<Endpoint>,
    /// From the device.
    pub input: Endpoint,
}

/// The interrupt endpoints of interface 0: the last OUT endpoint that is listed, the first IN endpoint, or 0x81.
///
/// # Errors
/// What is missing, in words.
pub fn report_endpoints(settings: &[Setting]) -> Result<ReportEndpoints, &'static str> {
    let setting = settings.iter().find(|setting| (setting.interface, setting.alternate) == (0, 0));
    let setting = setting.ok_or("interface 0")?;
    let mut all = setting.endpoints.iter().copied().filter(|endpoint| endpoint.kind == Kind::Interrupt);
    let out = all.clone().rfind(|endpoint| !endpoint.is_in());
    let input = all.find(Endpoint::is_in);
    let unlisted = Endpoint { address: REPORTS_IN, kind: Kind::Interrupt, packet: REPORTS_IN_PACKET };
    Ok(ReportEndpoints { interface: 0, out, input: input.unwrap_or(unlisted) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: [u8; 18] = [18, 1, 0, 2, 0, 0, 0, 64, 0xc9, 0x1f, 0x52, 1, 0, 1, 1, 2, 3, 1];

    fn configuration(value: u8) -> Vec<u8> {
        // The total length is not used.
        vec![9, 2, 0xff, 0xff, 1, value, 0, 0x80, 50]
    }

    fn interface(number: u8, alternate: u8, class: [u8; 3]) -> Vec<u8> {
        vec![9, 4, number, alternate, 2, class[0], class[1], class[2], 0]
    }

    fn endpoint(address: u8, attributes: u8, packet: u16) -> Vec<u8> {
        let [low, high] = packet.to_le_bytes();
        vec![7, 5, address, attributes, low, high, 1]
    }

    fn shown(parts: &[Vec<u8>]) -> Vec<Setting> {
        settings(&[DEVICE.to_vec(), parts.concat()].concat(), 1)
    }

    fn bulk(address: u8) -> Endpoint {
        Endpoint { address, kind: Kind::Bulk, packet: 512 }
    }

    #[test]
    fn fastboot_is_found_by_its_class_in_any_order() {
        let pair = BulkPair { interface: 2, out: bulk(0x02), input: bulk(0x81) };
        for order in [[0x81, 0x02], [0x02, 0x81]] {
            let found = shown(&[
                configuration(1),
                interface(0, 0, [8, 6, 0x50]),
                endpoint(0x83, 2, 512),
                endpoint(0x04, 2, 512),
                interface(2, 0, FASTBOOT_CLASS),
                // Something between an interface and its endpoints.
                vec![4, 0x30, 1, 2],
                endpoint(0x85, 3, 8),
                endpoint(order[0], 2, 512),
                endpoint(order[1], 2, 512),
            ]);
            assert_eq!(bulk_pair(&found), Ok(pair));
        }
    }

    #[test]
    fn without_the_class_it_is_interface_0() {
        let parts = [configuration(1), interface(0, 0, [0xff, 0, 0]), endpoint(1, 2, 512), endpoint(0x81, 2, 512)];
        let pair = BulkPair { interface: 0, out: bulk(1), input: bulk(0x81) };
        assert_eq!(bulk_pair(&shown(&parts)), Ok(pair));
        assert_eq!(bulk_pair(&shown(&parts[..3])), Err("bulk IN endpoint"));
        assert_eq!(bulk_pair(&shown(&parts[..2])), Err("bulk OUT endpoint"));
        assert_eq!(bulk_pair(&shown(&parts[..1])), Err("interface for fastboot"));
        assert_eq!(bulk_pair(&[]), Err("interface for fastboot"));
    }

    #[test]
    fn only_the_active_configuration_counts() {
        let parts = [
            configuration(2),
            interface(0, 0, FASTBOOT_CLASS),
            endpoint(9, 2, 64),
            configuration(1),
            interface(0, 0, FASTBOOT_CLASS),
            endpoint(1, 2, 512),
            endpoint(0x81, 2, 512),
            interface(0, 1, FASTBOOT_CLASS),
            endpoint(3, 2, 512),
        ];
        let found = shown(&parts);
        assert_eq!(found.iter().map(|setting| setting.alternate).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(bulk_pair(&found).unwrap().out, bulk(1));
    }

    #[test]
    fn endpoints_for_reports() {
        let hid = interface(0, 0, [3, 0, 0]);
        let interrupt = |address| Endpoint { address, kind: Kind::Interrupt, packet: 64 };
        let found = shown(&[configuration(1), hid.clone(), endpoint(0x81, 3, 64)]);
        let only_in = ReportEndpoints { interface: 0, out: None, input: interrupt(0x81) };
        assert_eq!(report_endpoints(&found), Ok(only_in));
        let more = [configuration(1), hid.clone(), endpoint(1, 3, 64), endpoint(0x82, 3, 64), endpoint(2, 3, 64)];
        let last = ReportEndpoints { interface: 0, out: Some(interrupt(2)), input: interrupt(0x82) };
        assert_eq!(report_endpoints(&shown(&more)), Ok(last));
        // Nothing listed, and a bulk endpoint that is not meant.
        let found = shown(&[configuration(1), hid, endpoint(1, 2, 512)]);
        assert_eq!(report_endpoints(&found), Ok(only_in));
        assert_eq!(report_endpoints(&[]), Err("interface 0"));
    }

    #[test]
    fn nonsense_is_left_out() {
        for bytes in [&[][..], &[0, 0], &[1, 2, 3], &[9, 2], &[255; 300], &[9, 2, 0, 0, 0, 1, 0, 0, 0, 0, 4]] {
            assert_eq!(settings(bytes, 1), []);
        }
        // Too short for what they are, an endpoint without an interface, a packet of no length.
        let found =
            shown(&[configuration(1), endpoint(1, 2, 512), vec![3, 4, 0], interface(0, 0, [3, 0, 0]), vec![3, 5, 1]]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].endpoints, []);
        let found = shown(&[configuration(1), interface(0, 0, [3, 0, 0]), endpoint(1, 3, 0x1800)]);
        assert_eq!(found[0].endpoints[0].packet, 1);
    }
}
