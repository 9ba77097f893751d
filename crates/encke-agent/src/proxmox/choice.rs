//! Which machines an item names.

use crate::error::{AgentError, AgentResult};
use encke_api::types::{PVEBackupNode, PVEParams, PVEVM};

/// What a list of nodes names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Whole,
    /// Some of the machine's disks.
    Partly,
}

/// Whether a list names a machine. Numbers are the cluster's: a machine is found on whichever node it runs.
fn named(list: &[PVEBackupNode], machine: &PVEVM) -> Option<Named> {
    if list.iter().any(|n| n.selected && n.name == machine.node) {
        return Some(Named::Whole);
    }
    let found = list
        .iter()
        .flat_map(|n| &n.included_v_ms)
        .find(|m| m.vmid == machine.vmid)?;
    if found.selected || found.included_disks.is_empty() {
        return Some(Named::Whole);
    }
    Some(Named::Partly)
}

/// The machines to save, in order, and what has to be told: machines that are named and not there.
pub(super) fn pick(params: &PVEParams, present: Vec<PVEVM>) -> AgentResult<(Vec<PVEVM>, Vec<String>)> {
    let list = if params.everything {
        &params.exclusions
    } else {
        &params.selections
    };
    let mut notes = Vec::new();
    if !params.everything {
        let wanted = list.iter().flat_map(|n| &n.included_v_ms);
        for machine in wanted.filter(|m| !present.iter().any(|p| p.vmid == m.vmid)) {
            notes.push(format!(
                "The machine {} '{}' is not there any more",
                machine.vmid, machine.name
            ));
        }
    }
    let mut machines = Vec::new();
    for machine in present {
        match named(list, &machine) {
            Some(Named::Partly) => {
                return Err(AgentError::Unsupported(format!(
                    "some disks of a machine ({}): Proxmox decides that by the disk's own setting 'backup'",
                    machine.vmid
                )));
            }
            Some(Named::Whole) if !params.everything => machines.push(machine),
            None if params.everything => machines.push(machine),
            _ => {}
        }
    }
    if machines.is_empty() {
        return Err(AgentError::Invalid(
            "the item names no machine that is there".into(),
        ));
    }
    Ok((machines, notes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use encke_api::types::{PVEBackupDisk, PVEBackupVM};

    fn machine(id: &str, node: &str) -> PVEVM {
        PVEVM {
            vmid: id.into(),
            node: node.into(),
            ..Default::default()
        }
    }

    fn node(name: &str, selected: bool, machines: &[(&str, bool)]) -> PVEBackupNode {
        let machine = |(id, selected): &(&str, bool)| PVEBackupVM {
            vmid: (*id).into(),
            selected: *selected,
            ..Default::default()
        };
        PVEBackupNode {
            name: name.into(),
            selected,
            included_v_ms: machines.iter().map(machine).collect(),
            ..Default::default()
        }
    }

    fn picked(everything: bool, list: Vec<PVEBackupNode>) -> (Vec<String>, usize) {
        let mut params = PVEParams {
            everything,
            ..Default::default()
        };
        if everything {
            params.exclusions = list;
        } else {
            params.selections = list;
        }
        let present = vec![machine("100", "a"), machine("101", "a"), machine("102", "b")];
        let (machines, notes) = pick(&params, present).unwrap();
        (machines.into_iter().map(|m| m.vmid).collect(), notes.len())
    }

    #[test]
    fn nodes_and_machines_are_chosen_or_left_out() {
        let ids = |list: &[&str]| list.iter().map(|s| (*s).to_string()).collect::<Vec<_>>();
        assert_eq!(picked(true, vec![]), (ids(&["100", "101", "102"]), 0));
        assert_eq!(picked(true, vec![node("a", true, &[])]), (ids(&["102"]), 0));
        assert_eq!(
            picked(true, vec![node("b", false, &[("101", true)])]),
            (ids(&["100", "102"]), 0)
        );
        // It has moved to another node, and another one is gone.
        let list = vec![node("a", false, &[("102", true), ("900", true)])];
        assert_eq!(picked(false, list), (ids(&["102"]), 1));
        assert_eq!(
            picked(false, vec![node("a", true, &[])]),
            (ids(&["100", "101"]), 0)
        );
    }

    #[test]
    fn a_part_of_a_machine_and_nothing_at_all_are_refused() {
        let mut list = vec![node("a", false, &[("100", false)])];
        list[0].included_v_ms[0]
            .included_disks
            .push(PVEBackupDisk::default());
        let params = PVEParams {
            selections: list,
            ..Default::default()
        };
        assert!(pick(&params, vec![machine("100", "a")]).is_err());
        assert!(pick(&PVEParams::default(), vec![machine("100", "a")]).is_err());
    }
}
