//! What a version has to pass before it is in service.

use aimass_inference::{Axis, Data, Port, Servable};

use crate::error::HostError;

/// Longest name.
pub(super) const MAX_NAME_BYTES: usize = 80;

pub(super) fn check_name(name: &str) -> Result<(), HostError> {
    let good =
        (1..=MAX_NAME_BYTES).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if good {
        return Ok(());
    }
    Err(HostError::Name {
        name: name.chars().take(MAX_NAME_BYTES).collect(),
    })
}

/// Runs the model on an uneven pattern: NaN must not come out.
pub(super) fn self_test(servable: &Servable) -> Result<(), String> {
    let outputs = servable.try_pattern().map_err(|e| e.to_string())?;
    for (port, output) in servable.outputs().iter().zip(&outputs) {
        let nan = match output.data() {
            Data::F32(values) => values.iter().any(|v| v.is_nan()),
            Data::F64(values) => values.iter().any(|v| v.is_nan()),
            _ => false,
        };
        if nan {
            return Err(format!(
                "output {:?} is NaN on inputs between -1 and 1: its weights may be damaged",
                port.name
            ));
        }
    }
    Ok(())
}

/// Whether all that fits `old` fits `new`, names of axes aside.
fn takes_as_much(old: &[Axis], new: &[Axis]) -> bool {
    old.len() == new.len() && old.iter().zip(new).all(|(old, new)| matches!(new, Axis::Free(_)) || old == new)
}

/// What differs between the inputs and outputs of two versions, for people.
pub(super) fn difference(old: &Servable, new: &Servable) -> Option<String> {
    let compare = |what: &str, old: &[Port], new: &[Port]| {
        if old.len() != new.len() {
            return Some(format!("{} {what}s instead of {}", new.len(), old.len()));
        }
        let differ = |(old, new): (&Port, &Port)| {
            let same = old.name == new.name && old.datatype == new.datatype && takes_as_much(&old.axes, &new.axes);
            let show = |port: &Port| format!("{:?} {} {}", port.name, port.datatype, port.shape_text());
            (!same).then(|| format!("{what} {} instead of {}", show(new), show(old)))
        };
        old.iter().zip(new).find_map(differ)
    };
    compare("input", old.inputs(), new.inputs()).or_else(|| compare("output", old.outputs(), new.outputs()))
}
