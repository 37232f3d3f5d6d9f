//! Who may open a board, by udev's rules and by its device node.

use imx_usb::usb::facts::{self, Rule, Subsystem};

use super::{Finding, Level};
use crate::board::Hub;
use crate::board::look::Entry;
use crate::cmd::udev_rules::FILE;
use crate::discover::shown;
use crate::render::text::printable;

/// Makes rules and has udev read them.
fn install(options: &str) -> String {
    format!("mapflash udev-rules{options} | sudo tee {FILE} && sudo udevadm control --reload && sudo udevadm trigger")
}

/// The same for people who do not sit at the machine.
fn install_for_group(group: &str) -> String {
    format!("{} && sudo usermod -aG {group} $USER, then log in again", install(&format!(" --group {group}")))
}

/// Do rules give access to the boards that the table knows?
pub(super) fn rules(hub: &Hub, subsystem: &Subsystem, root: bool) -> Option<Finding> {
    if !subsystem.udevd {
        return None;
    }
    let mut ids: Vec<(u16, u16)> = hub.table.ids().iter().map(|id| (id.vendor, id.product)).collect();
    ids.sort_unstable();
    ids.dedup();
    let granting = |(vendor, product): &(u16, u16)| facts::rules(&hub.roots, *vendor, *product).into_iter().next();
    let granted: Vec<Rule> = ids.iter().filter_map(granting).collect();
    let name = "rules";
    Some(match (granted.first(), granted.len()) {
        (Some(rule), all) if all == ids.len() => {
            let text = format!("udev rules for all known boards, as in {}", shown(&rule.file));
            Finding::new(Level::Good, name, text)
        }
        _ if root => Finding::new(Level::Note, name, "no udev rules for all known boards; root needs none"),
        (Some(_), some) => {
            let text = format!("udev rules for {some} of {} known boards", ids.len());
            Finding::new(Level::Warning, name, text).fix(install(""))
        }
        (None, _) => Finding::new(Level::Warning, name, "no udev rules for i.MX boards").fix(install("")),
    })
}

/// May this board be opened, and does somebody have it?
pub(super) fn board(hub: &Hub, entry: &Entry, subsystem: &Subsystem) -> Vec<Finding> {
    let (device, port) = (&entry.device, &entry.device.port);
    let Some(node) = facts::node(&hub.roots, &device.path) else { return Vec::new() };
    let at = shown(&node.path);
    let Some(access) = &node.access else {
        let text = format!("{port}: its device node {at} is missing");
        let fix = if subsystem.udevd { "sudo udevadm trigger" } else { "hand /dev/bus/usb into the container" };
        return vec![Finding::new(Level::Problem, "no_node", text).fix(fix)];
    };
    let mut found = Vec::new();
    if !access.ours {
        let who = |name: &Option<String>, number: u32| name.clone().unwrap_or_else(|| number.to_string());
        let (owner, group) = (who(&access.owner, access.uid), who(&access.group, access.gid));
        let text = format!("{port}: no permission to open {at} ({owner}:{group}, mode {:03o})", access.mode);
        let rules = facts::rules(&hub.roots, device.vendor, device.product);
        let (why, fix) = mend(&rules, subsystem, access, &at);
        found.push(Finding::new(Level::Problem, "denied", text + &why).fix(fix));
    }
    let holders = facts::holders(&hub.roots, &node.path);
    for process in &holders.processes {
        let text = format!("{port}: {} (process {}) has it open", printable(&process.name), process.pid);
        found.push(
            Finding::new(Level::Problem, "held", text).fix(format!("kill {}, or wait until it is done", process.pid)),
        );
    }
    for driver in facts::drivers(&hub.roots, &device.path) {
        // The kernel's HID driver is taken off where it is in the way.
        if !matches!(&*driver.name, "usbhid" | "usbfs") {
            let text = format!("{port}: the driver {} has interface {}", printable(&driver.name), driver.interface);
            let fix = format!(
                "echo {}:1.{} | sudo tee /sys/bus/usb/drivers/{}/unbind",
                device.path,
                driver.interface,
                printable(&driver.name)
            );
            found.push(Finding::new(Level::Warning, "driver", text).fix(fix));
        }
    }
    found
}

/// Why access is missing though rules may be there, and what gives it.
fn mend(rules: &[Rule], subsystem: &Subsystem, access: &facts::Access, node: &str) -> (String, String) {
    if !subsystem.udevd {
        return (String::new(), format!("sudo chmod a+rw {node}, or run as root"));
    }
    if let Some(late) = rules.iter().find(|rule| rule.is_late()) {
        let why = format!("; {} gives access too late", shown(&late.file));
        let fix =
            format!("sudo mv {} {FILE} && sudo udevadm control --reload && sudo udevadm trigger", shown(&late.file));
        return (why, fix);
    }
    if let Some(rule) = rules.iter().find(|rule| rule.grants.group.is_some()) {
        let group = rule.grants.group.clone().unwrap_or_default();
        let group = printable(&group);
        if access.group.as_deref() == rule.grants.group.as_deref() {
            return (String::new(), format!("sudo usermod -aG {group} $USER, then log in again"));
        }
        let why = format!("; {} is not in effect yet", shown(&rule.file));
        return (why, "sudo udevadm control --reload && sudo udevadm trigger, or plug the board in again".to_owned());
    }
    if let Some(rule) = rules.iter().find(|rule| rule.grants.uaccess) {
        let why = format!("; {} gives it only to whoever sits at the machine, not over ssh", shown(&rule.file));
        return (why, install_for_group("plugdev"));
    }
    (String::new(), install(""))
}

#[cfg(test)]
mod tests {
    use imx_usb::usb::facts::{Access, Grants};

    use super::*;

    fn rule(file: &str, grants: Grants) -> Rule {
        Rule { file: file.into(), line: 1, grants, named: true, certain: true }
    }

    fn node(group: &str) -> Access {
        Access { mode: 0o664, uid: 0, gid: 0, owner: Some("root".into()), group: Some(group.into()), ours: false }
    }

    fn ask(rules: &[Rule], udevd: bool, group: &str) -> (String, String) {
        let subsystem = Subsystem { sysfs: true, nodes: true, udevd, buses: 1 };
        mend(rules, &subsystem, &node(group), "/dev/bus/usb/001/002")
    }

    #[test]
    fn what_gives_access_depends_on_what_is_there() {
        let uaccess = Grants { uaccess: true, ..Grants::default() };
        let plugdev = Grants { mode: Some(0o660), group: Some("plugdev".into()), ..Grants::default() };
        // Nothing yet.
        assert_eq!(ask(&[], true, "root"), (String::new(), install("")));
        // A container: rules would have no effect.
        assert_eq!(ask(&[], false, "root").1, "sudo chmod a+rw /dev/bus/usb/001/002, or run as root");
        // Too late for uaccess.
        let (why, fix) = ask(&[rule("/etc/udev/rules.d/99-uuu.rules", uaccess.clone())], true, "root");
        assert!(why.contains("99-uuu.rules gives access too late"), "{why}");
        assert!(fix.starts_with("sudo mv /etc/udev/rules.d/99-uuu.rules /etc/udev/rules.d/70-mapflash.rules"), "{fix}");
        // In time, but nobody sits there.
        let (why, fix) = ask(&[rule("/etc/udev/rules.d/70-mapflash.rules", uaccess)], true, "root");
        assert!(why.contains("not over ssh") && fix.contains("--group plugdev") && fix.contains("usermod"), "{fix}");
        // For a group: not in effect yet, or the user is no member.
        let (why, fix) = ask(&[rule("/etc/udev/rules.d/70-mapflash.rules", plugdev.clone())], true, "root");
        assert!(why.contains("not in effect yet") && fix.contains("udevadm trigger"), "{fix}");
        let (why, fix) = ask(&[rule("/etc/udev/rules.d/70-mapflash.rules", plugdev)], true, "plugdev");
        assert_eq!((why.as_str(), fix.as_str()), ("", "sudo usermod -aG plugdev $USER, then log in again"));
    }
}
