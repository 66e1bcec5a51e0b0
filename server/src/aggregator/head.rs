//! The head that a job's rounds are evaluated by.
//!
//! The agent has the same step in `recipe`; the two meet in the job file alone, as the aggregator knows nothing of the agent's program.

use aimass_learning::{BinaryCrossEntropy, ClassAxis, Contrastive, CrossEntropy, Head, Huber, Loss, Pairwise};
use aimass_protocol::job::{ClassAxisName, HeadSection, LossSection};

pub(crate) fn head(section: &HeadSection) -> Head {
    let loss = match &section.loss {
        LossSection::CrossEntropy {
            label_smoothing,
            class_weights,
            ignore_index,
            class_axis,
        } => Loss::CrossEntropy(CrossEntropy {
            label_smoothing: *label_smoothing,
            class_weights: class_weights.clone(),
            ignore_index: *ignore_index,
            class_axis: match class_axis {
                ClassAxisName::Last => ClassAxis::Last,
                ClassAxisName::Second => ClassAxis::Second,
            },
        }),
        LossSection::BinaryCrossEntropy { pos_weight } => Loss::BinaryCrossEntropy(BinaryCrossEntropy {
            pos_weight: pos_weight.clone(),
        }),
        LossSection::Mse => Loss::Mse,
        LossSection::Mae => Loss::Mae,
        LossSection::Huber { delta } => Loss::Huber(Huber { delta: *delta }),
        LossSection::Contrastive { temperature } => Loss::Contrastive(Contrastive { temperature: *temperature }),
        LossSection::Pairwise { margin } => Loss::Pairwise(Pairwise { margin: *margin }),
    };
    Head {
        output: section.output.clone(),
        loss,
        weight: section.weight,
    }
}
