//! Rewrites a model from the command line, for the scripts in `testdata/` that compare the results with onnxruntime.
//!
//! ```text
//! shrink channels IN SHARE OUT SILENCED   prunes channels; SILENCED computes what OUT has to
//! shrink fold IN OUT                      folds
//! shrink pack IN SHARE standard|compact OUT  prunes weights and packs; OUT.dense is the pruned model
//! shrink expand IN OUT                    unpacks
//! shrink build NAME OUT                   writes one of the models that `onnx::build` makes
//! ```
#![allow(clippy::disallowed_methods, reason = "an example is a program: files belong to it")]

use std::error::Error;
use std::fs;

use aimass_onnx::Model;
use aimass_onnx::build::{Conv1d, InitialWeights, McMahanCnn, MobileNetV2, ResNet18, TransformerClassifier, mlp};
use aimass_shrink::channels::{ChannelRules, prune_channels};
use aimass_shrink::fold::fold;
use aimass_shrink::prune::{Masks, PruneRules, Sparsity};
use aimass_shrink::sparse::{Format, pack, unpacked};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["channels", from, share, to, silenced] => {
            let model = Model::from_bytes(&fs::read(from)?)?;
            let (small, plan) = prune_channels(&model, &ChannelRules::new(share.parse::<f64>()?.try_into()?))?;
            fs::write(to, small.as_bytes())?;
            fs::write(silenced, plan.silenced(&model).ok_or("not its own plan")?.as_bytes())?;
            let gone: usize = plan.groups.iter().map(|group| group.before - group.kept).sum();
            let (groups, before, after) = (plan.groups.len(), plan.parameters_before, plan.parameters_after);
            println!("{groups} groups, {gone} channels gone, {before} parameters before, {after} after");
        }
        ["fold", from, to] => {
            let (plain, folded) = fold(&Model::from_bytes(&fs::read(from)?)?)?;
            fs::write(to, plain.as_bytes())?;
            let counts = [folded.norms.len(), folded.constants.len(), folded.removed.len(), folded.left.len()];
            println!(
                "norms {}, constants {}, removed {}, left {}",
                counts[0], counts[1], counts[2], counts[3]
            );
        }
        ["pack", from, share, format, to] => {
            let model = Model::from_bytes(&fs::read(from)?)?;
            let sparsity: Sparsity = share.parse::<f64>()?.try_into()?;
            let pruned = Masks::by_magnitude(&model, &PruneRules::default(), sparsity)?.apply(&model)?;
            let format = if format == "standard" { Format::Standard } else { Format::Compact };
            let packed = pack(&pruned, format)?;
            fs::write(format!("{to}.dense"), pruned.as_bytes())?;
            fs::write(to, packed.model.as_bytes())?;
            println!("{} bytes before, {} after", packed.bytes_before, packed.bytes_after);
        }
        ["expand", from, to] => fs::write(to, unpacked(&fs::read(from)?)?.as_bytes())?,
        ["build", name, to] => fs::write(to, built(name)?.as_bytes())?,
        _ => return Err("see the top of the example's source for its commands".into()),
    }
    Ok(())
}

fn built(name: &str) -> Result<Model, Box<dyn Error>> {
    let weights = InitialWeights::default();
    Ok(match name {
        "mlp" => mlp(&[64, 128, 96, 10], 5),
        "mcmahan" => McMahanCnn.build(weights)?,
        "conv1d" => Conv1d::default().build(weights)?,
        "resnet18" => ResNet18::default().build(weights)?,
        "mobilenet" => MobileNetV2::default().build(weights)?,
        "transformer" => TransformerClassifier::default().build(weights)?,
        _ => return Err(format!("there is no {name:?}").into()),
    })
}
