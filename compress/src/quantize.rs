//! Integers for floats: ranges from rows, rounding in training, and the graph that comes of it.

use std::ops::ControlFlow;
use std::sync::Arc;

use aimass_learning::data::{Source, Subset};
use aimass_learning::{Head, Watch, outputs};
use aimass_onnx::{Model, TrainableRules};
use aimass_shrink::prune::Masks;
use aimass_shrink::quantize::{self, Observed, blocks, dynamic};

use crate::CompressError;
use crate::options::{Quantize, Tune};
use crate::pipeline::Event;
use crate::ranges::{check, spread};
use crate::tune::Tuning;

/// Rows that are computed at once.
pub(crate) const BATCH: usize = 32;

/// What is seen of a model's activations on rows of data: histograms, which add up over devices.
///
/// # Errors
/// [`CompressError::Calibration`] for rows that the model can't take, [`CompressError::Quantize`] for values that are not finite.
pub fn calibrate(model: &Model, options: &quantize::Options, data: &dyn Source, heads: &[Head]) -> Result<Observed, CompressError> {
    let (_, names) = quantize::observe(model, options)?;
    let mut observed = Observed::new(&names);
    look(model, &names, &mut observed, data, heads, &mut || ControlFlow::Continue(()))?;
    Ok(observed)
}

/// Counts what `names` hold on rows of data, batch by batch; `each` is asked after every batch whether to go on.
pub(crate) fn look(
    model: &Model,
    names: &[String],
    observed: &mut Observed,
    data: &dyn Source,
    heads: &[Head],
    each: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<(), CompressError> {
    let watch = Watch {
        heads: heads.to_vec(),
        batch: BATCH,
        ..Watch::new(names.to_vec())
    };
    let mut wrong = None;
    let seen = outputs(model, data, &watch, &mut |arrays| {
        let added = names.iter().zip(arrays).try_for_each(|(name, array)| match array.as_floats() {
            Some(values) => observed.add(name, values),
            None => Ok(()),
        });
        match added {
            Ok(()) => each(),
            Err(error) => {
                wrong = Some(error);
                ControlFlow::Break(())
            }
        }
    });
    seen.map_err(CompressError::Calibration)?;
    match wrong {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}

/// What the quantization of a model needs besides the model.
pub(crate) struct Means<'a> {
    pub(crate) data: Option<&'a Arc<dyn Source>>,
    /// Seen elsewhere.
    pub(crate) ranges: Option<&'a Observed>,
    pub(crate) heads: &'a [Head],
    pub(crate) rules: &'a TrainableRules,
    pub(crate) tune: Option<&'a Tune>,
    pub(crate) masks: Option<&'a Masks>,
}

/// The quantized model.
pub(crate) fn quantize(model: &Model, how: &Quantize, means: &Means<'_>, show: &mut dyn FnMut(Event<'_>)) -> Result<Model, CompressError> {
    let but = |exclude: &[String]| quantize::Options {
        exclude: exclude.to_vec(),
        ..quantize::Options::default()
    };
    match how {
        Quantize::Weights { exclude } => Ok(quantize::int8_weights(model, &but(exclude))?),
        Quantize::Dynamic { exclude } => Ok(dynamic::quantize(model, &but(exclude))?),
        Quantize::Blocks { block, exclude } => Ok(blocks::quantize(
            model,
            &blocks::Options {
                block_size: *block,
                exclude: exclude.clone(),
            },
        )?),
        Quantize::Static {
            method,
            activations,
            aware,
            rows,
            exclude,
        } => {
            let options = quantize::Options {
                method: *method,
                activations: *activations,
                ..but(exclude)
            };
            let observed = match (means.ranges, means.data) {
                (Some(ranges), _) => {
                    check(ranges, &quantize::observe(model, &options)?.1)?;
                    ranges.clone()
                }
                (None, Some(data)) => {
                    show(Event::Began {
                        what: "looking at ranges",
                        steps: 0,
                    });
                    let rows = Subset::new(Arc::clone(data), spread(data.len(), *rows));
                    let rows: &dyn Source = rows.as_ref().map_or(&**data, |rows| rows);
                    calibrate(model, &options, rows, means.heads)?
                }
                (None, None) => {
                    return Err(CompressError::NoData {
                        what: "static quantization",
                    });
                }
            };
            let (Some(tune), Some(data)) = (means.tune.filter(|_| *aware), means.data) else {
                return Ok(quantize::int8(model, &observed, &options)?);
            };
            let fake = quantize::fake(model, &observed, &options)?;
            let tuned = Tuning::new(&fake, means.rules, &**data, tune).run("training with rounding", means.masks, show)?;
            Ok(quantize::freeze(&tuned)?)
        }
    }
}
