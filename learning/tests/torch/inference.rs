//! Outputs against PyTorch's, at two sizes of the dynamic dimensions.

use aimass_learning::Engine;

use crate::checks::{Check, distance, run};
use crate::files::ModelFile;

/// Most that outputs may be apart, as max |a - b| / max |b|: deep models too (ResNet-18, MobileNetV2, transformers).
const TOLERANCE: f64 = 1e-5;

pub(crate) fn check(file: &ModelFile) -> Check {
    run(format!("inference/{}", file.about.name), || {
        let engine = Engine::new(&file.model);
        if !file.about.refused_ops.is_empty() {
            return refused(file, engine.err().map(|e| e.to_string()));
        }
        let mut engine = engine.map_err(|e| e.to_string())?;
        let mut furthest = 0.0f64;
        for case in &file.about.inference {
            let outputs = engine.run(file.arrays(&case.inputs)?).map_err(|e| e.to_string())?;
            for (name, output) in engine.outputs().into_iter().zip(&outputs) {
                let expected = case.outputs.get(name).ok_or_else(|| format!("nothing was recorded of `{name}`"))?;
                let apart = distance(output, &file.array(expected)?).map_err(|e| format!("{:?}: `{name}`: {e}", case.sizes))?;
                furthest = furthest.max(apart);
            }
        }
        if furthest.is_nan() || furthest > TOLERANCE {
            return Err(format!("{furthest:.1e} apart"));
        }
        Ok(format!("{furthest:.1e}"))
    })
}

/// A file with ops that are refused must be refused by one of them.
fn refused(file: &ModelFile, error: Option<String>) -> Result<String, String> {
    let error = error.ok_or("it was not refused")?;
    if file.about.refused_ops.iter().any(|op| error.contains(op.as_str())) {
        Ok("refused, as it must be".to_owned())
    } else {
        Err(format!("refused for something else: {error}"))
    }
}
