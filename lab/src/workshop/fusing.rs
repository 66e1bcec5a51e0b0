//! Groups' averages, as the aggregator fuses them.

use std::num::NonZeroUsize;

use aimass_compression::DecodedSum;
use aimass_recipe::fusion::{Group, fuse};
use aimass_sim::fleet::Published;

use super::{Base, Lab};

impl Lab {
    /// The weights that the next round begins with, of the average of this one's; `None` where it begins with the same as this one.
    pub(super) fn fused(&mut self, base: &Base, average: Vec<f32>, examples: u64, round: u32) -> Result<Option<Vec<f32>>, String> {
        let Some(rows) = &self.tools.public else {
            return Ok(Some(average));
        };
        self.averages.push((average, examples));
        if self.tools.job.keeps_its_base(round) {
            return Ok(None);
        }
        let averages = std::mem::take(&mut self.averages);
        let groups = averages.iter().map(|(weights, examples)| Group {
            weights,
            examples: *examples,
        });
        let threads = NonZeroUsize::new(self.tools.threads).unwrap_or(NonZeroUsize::MIN);
        let layout = &self.tools.layout;
        let fused = fuse(
            (&base.model, base.digest),
            layout,
            &groups.collect::<Vec<_>>(),
            &**rows,
            &self.tools.job,
            threads,
        );
        fused.map(Some).map_err(|e| e.to_string())
    }

    /// A round within a block: nothing new is begun with, and nothing new is measured.
    pub(super) fn kept_base(&mut self, base: &Base, decoded: DecodedSum) -> Published {
        let published = Published {
            model: base.digest,
            model_bytes: self.model_bytes,
            test_accuracy: None,
            test_loss: None,
            train_loss: (!self.tools.no_train).then_some(f64::from(decoded.train_loss)),
            device_accuracy: decoded.evaluation.map(|found| found.accuracy()),
            clipped: decoded.clipped,
        };
        self.mean = decoded.mean_delta;
        published
    }
}
