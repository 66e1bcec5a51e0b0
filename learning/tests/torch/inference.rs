//! Outputs against PyTorch's, at two sizes of the dynamic dimensions.

use aimass_learning::Engine;

use crate::checks::{Check, distance, run};
use crate::files::ModelFile;

/// Most that outputs may be apart, as max |a - b| / max |b|: deep models too (ResNet-18, MobileNetV2, transformers).
const TOLERANCE: f64 = 1e-5;

pub(crate) fn check(file: &ModelFile) -> Check {
    run(format!("inference/{}", file.about.name), || {
        if !file.about.refused_ops.is_empty() {
            refused(file, Engine::new(&file.model).err().map(|e| e.to_string()))?;
        }
        let file = &file.prepared();
        let mut engine = Engine::new(&file.model).map_err(|e| e.to_string())?;
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

/// A file with ops that are refused must be refused by one of them, as long as it is not prepared.
fn refused(file: &ModelFile, error: Option<String>) -> Result<(), String> {
    let error = error.ok_or("it was not refused")?;
    if file.about.refused_ops.iter().any(|op| error.contains(op.as_str())) {
        Ok(())
    } else {
        Err(format!("refused for something else: {error}"))
    }
}
