//! Runs a folder of models: for each `NAME.onnx` the inputs in `NAME.npz`, by name. Writes `NAME.0.npy`, `NAME.1.npy`, ... with the
//! outputs in the model's order, or `NAME.txt` with why there are none. `testdata/backend/run.py` makes the folder and compares.

use std::collections::BTreeMap;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use aimass_learning::data::{Limits, read_npz, write_npy};
use aimass_learning::{Array, Engine};
use aimass_onnx::Model;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).ok_or("usage: node_tests FOLDER")?;
    let mut models = Vec::new();
    for file in std::fs::read_dir(&folder)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "onnx") {
            models.push(path);
        }
    }
    models.sort();
    for path in models {
        let made = catch_unwind(AssertUnwindSafe(|| run(&path)));
        let problem = match made {
            Ok(Ok(outputs)) => {
                for (i, output) in outputs.iter().enumerate() {
                    write_npy(&path.with_extension(format!("{i}.npy")), output)?;
                }
                continue;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "panic".to_owned(),
        };
        std::fs::write(path.with_extension("txt"), problem)?;
    }
    Ok(())
}

fn run(path: &Path) -> Result<Vec<Array>, Box<dyn Error>> {
    let mut engine = Engine::new(&Model::from_bytes(&std::fs::read(path)?)?)?;
    let mut inputs: BTreeMap<String, Array> = read_npz(&path.with_extension("npz"), &Limits::default())?;
    let needed = engine.inputs();
    inputs.retain(|name, _| needed.contains(&name.as_str()));
    Ok(engine.run(inputs)?)
}
