//! Normalisation of each example by its own mean and variance: over the last axes, over a channel, over a group of channels.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape};

use super::Kernel;
use crate::program::{NodeView, Output, Planned, Problem, Source, Tensor, broadcast, refuse};

/// Rows of a matrix are normalised; then a scale and a bias are applied to a view of the result.
///
/// # Source
/// Ba et al. 2016, Layer Normalization; Ulyanov et al. 2016, Instance Normalization; Wu and He 2018, Group Normalization (ECCV);
/// Zhang and Sennrich 2019, Root Mean Square Layer Normalization (NeurIPS).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Normalise {
    /// Rows, and elements of each.
    pub(crate) rows: [usize; 2],
    pub(crate) epsilon: f32,
    /// Whether the mean is taken away.
    pub(crate) centred: bool,
    /// What scale and bias broadcast to, and their own shapes with as many dimensions.
    pub(crate) view: Vec<usize>,
    pub(crate) scale: Vec<usize>,
    pub(crate) bias: Vec<usize>,
    pub(crate) shape: Vec<usize>,
    /// The shape of the mean and of the inverse deviation, where those are outputs.
    pub(crate) statistics: Option<Vec<usize>>,
}

fn wrong_shape(what: &str, tensor: &Tensor, x: &Tensor, fix: &str) -> Problem {
    let problem = format!("its {what} has the shape {:?} beside an input of {:?}", tensor.shape, x.shape);
    refuse(problem, fix)
}

/// `shape` with ones before it.
fn raised(shape: &[usize], rank: usize) -> Vec<usize> {
    std::iter::repeat_n(1, rank.saturating_sub(shape.len()))
        .chain(shape.iter().copied())
        .collect()
}

fn float32(node: &NodeView<'_>) -> Result<(), Problem> {
    if node.int("stash_type", 1) == 1 {
        return Ok(());
    }
    Err(refuse(
        format!("it computes its mean in the element type {}", node.int("stash_type", 1)),
        "use float32 (stash_type = 1)",
    ))
}

/// LayerNormalization and RMSNormalization.
pub(super) fn layer_norm(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis", "epsilon", "stash_type"])?;
    float32(node)?;
    let centred = node.op() == "LayerNormalization";
    let (x, scale) = (node.tensor(0)?, node.tensor(1)?);
    let bias = if centred { node.optional_tensor(2)? } else { None };
    let axis = node.axis(node.int("axis", -1), x.rank())?;
    for (what, tensor) in [("scale", Some(scale)), ("bias", bias)] {
        let fits = |t: &Tensor| broadcast(&t.shape, &x.shape[axis..]).is_some_and(|shape| shape == x.shape[axis..]);
        if let Some(tensor) = tensor.filter(|t| !fits(t)) {
            return Err(wrong_shape(
                what,
                tensor,
                x,
                "it must broadcast to the dimensions that are normalised",
            ));
        }
    }
    let statistics: Vec<usize> = x.shape[..axis].iter().copied().chain(vec![1; x.rank() - axis]).collect();
    let statistics = (centred && (node.names_output(1) || node.names_output(2))).then_some(statistics);
    let kernel = Normalise {
        rows: [x.shape[..axis].iter().product(), x.shape[axis..].iter().product()],
        epsilon: node.float("epsilon").unwrap_or(1e-5),
        centred,
        view: x.shape.clone(),
        scale: raised(&scale.shape, x.rank()),
        bias: bias.map(|b| raised(&b.shape, x.rank())).unwrap_or_default(),
        shape: x.shape.clone(),
        statistics,
    };
    let operands: Vec<&Tensor> = [x, scale].into_iter().chain(bias).collect();
    let mut outputs = vec![Output::float(x.shape.clone())];
    outputs.extend(
        kernel
            .statistics
            .iter()
            .flat_map(|s| [Output::float(s.clone()), Output::float(s.clone())]),
    );
    Ok(Planned::Run {
        kernel: Kernel::Normalise(kernel),
        inputs: operands.into_iter().map(Source::from).collect(),
        outputs,
    })
}

pub(super) fn instance_norm(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["epsilon", "consumed_inputs"])?;
    let x = node.tensor(0)?;
    if x.rank() < 3 {
        return Err(refuse(
            format!("its input has {} dimensions", x.rank()),
            "it needs at least one spatial dimension",
        ));
    }
    by_channels(node, x, x.shape[1], x.shape[1])
}

/// Scale and bias hold one value a group before opset 21, one a channel since.
pub(super) fn group_norm(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["epsilon", "num_groups", "stash_type"])?;
    float32(node)?;
    let x = node.tensor(0)?;
    let channels = x.shape.get(1).copied().unwrap_or(0);
    let groups = usize::try_from(node.int("num_groups", 0)).unwrap_or(0);
    if x.rank() < 2 || groups == 0 || !channels.is_multiple_of(groups) {
        return Err(refuse(
            format!("{} groups do not part an input of shape {:?}", node.int("num_groups", 0), x.shape),
            "the number of channels must be a multiple of num_groups",
        ));
    }
    by_channels(node, x, groups, if node.opset < 21 { groups } else { channels })
}

/// Normalises groups of channels; scale and bias have `parts` values each for equal parts of the channels.
fn by_channels(node: &NodeView<'_>, x: &Tensor, groups: usize, parts: usize) -> Result<Planned, Problem> {
    let (scale, bias) = (node.tensor(1)?, node.tensor(2)?);
    for (what, tensor) in [("scale", scale), ("bias", bias)] {
        if tensor.shape != [parts] {
            return Err(wrong_shape(what, tensor, x, &format!("it must have the shape [{parts}]")));
        }
    }
    let example: usize = x.shape[1..].iter().product();
    let kernel = Normalise {
        rows: [x.shape[0] * groups, example / groups],
        epsilon: node.float("epsilon").unwrap_or(1e-5),
        centred: true,
        view: vec![x.shape[0], parts, example / parts],
        scale: vec![1, parts, 1],
        bias: vec![1, parts, 1],
        shape: x.shape.clone(),
        statistics: None,
    };
    Planned::run(Kernel::Normalise(kernel), &[x, scale, bias], x.shape.clone())
}

impl Normalise {
    /// The output, then the mean and the inverse deviation where asked for.
    pub(super) fn run<B: Backend>(&self, x: FloatTensor<B>, scale: FloatTensor<B>, bias: Option<FloatTensor<B>>) -> Vec<FloatTensor<B>> {
        let reshaped = |t: FloatTensor<B>, shape: &[usize]| B::float_reshape(t, Shape::from(shape.to_vec()));
        let share = 1.0 / self.rows[1] as f32;
        let mean_of = |t: FloatTensor<B>| B::float_mul_scalar(B::float_sum_dim(t, 1), share.into());
        let x = reshaped(x, &self.rows);
        let (mean, centred) = if self.centred {
            let mean = mean_of(x.clone());
            (Some(mean.clone()), B::float_sub(x, mean))
        } else {
            (None, x)
        };
        let variance = mean_of(B::float_mul(centred.clone(), centred.clone()));
        let inverse = B::float_recip(B::float_sqrt(B::float_add_scalar(variance, self.epsilon.into())));
        let y = reshaped(B::float_mul(centred, inverse.clone()), &self.view);
        let mut y = B::float_mul(y, reshaped(scale, &self.scale));
        if let Some(bias) = bias {
            y = B::float_add(y, reshaped(bias, &self.bias));
        }
        let mut outputs = vec![reshaped(y, &self.shape)];
        if let (Some(shape), Some(mean)) = (&self.statistics, mean) {
            outputs.extend([reshaped(mean, shape), reshaped(inverse, shape)]);
        }
        outputs
    }
}
