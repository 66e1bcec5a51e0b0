//! A model loaded once and run many times, from several threads: what serving, compression and canaries run.

mod budget;
mod compiled;
mod engine;
mod error;
mod made;
mod plan;
mod plans;
mod ports;
mod ready;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use aimass_onnx::{Model, ValueInfo};
use aimass_shrink::serve;
use tract_onnx::prelude::{Framework, InferenceModel};

use self::compiled::Compiled;
use self::made::zeros;
use self::plan::Plan;
use self::plans::{Plans, Shapes};
use self::ready::Ready;
use crate::guard::caught;
use crate::parity::Tolerance;
use crate::tensor::Tensor;
use crate::{InferError, chain, check_ops, expanded};

pub use budget::{MemoryBudget, OverBudget, Reservation};
pub use engine::{Engine, UnknownEngine};
pub use error::{LoadError, RunError};
pub use made::read_file;
pub use ports::{Axis, Port};
pub use trial::RowCost;

/// Lengths that are tried, in order, for free axes that nothing is known of.
const GUESSES: [usize; 4] = [8, 32, 1, 128];
/// How far a row may differ when it is computed in a batch, relative to the largest value (other orders of the same sums).
const BATCH_TOLERANCE: f64 = 1e-4;

/// How a model is loaded.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// Bytes of the largest file.
    pub max_model_bytes: u64,
    /// Runs at once: as many states are kept. A run has one thread.
    pub threads: usize,
    /// Batch sizes that are made ready when the model is loaded, for a model whose batch is free; the smallest is run first. Empty: 1.
    pub batches: Vec<usize>,
    /// Lengths of other free axes by name, for the first run; what is not said is guessed.
    pub axes: BTreeMap<String, usize>,
    /// Plans kept for shapes that come later; the least recently used one goes.
    pub max_plans: usize,
    /// What the model may take, with all others that share it.
    pub memory: MemoryBudget,
    /// What computes it.
    pub engine: Engine,
}

impl Default for LoadOptions {
    /// 2 GiB, one thread, batches of 1, 8 more plans, no memory cap, the faster engine.
    fn default() -> Self {
        Self {
            max_model_bytes: 2 << 30,
            threads: 1,
            batches: vec![1],
            axes: BTreeMap::new(),
            max_plans: 8,
            memory: MemoryBudget::unlimited(),
            engine: Engine::Auto,
        }
    }
}

/// A model that runs. Runs may be made from several threads at once.
pub struct Servable {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// What tract's plans are made of; `None` where no more of them are made.
    graph: Option<InferenceModel>,
    /// What the trainer's plans are made of, where they compute.
    compiled: Option<Compiled>,
    /// Why the engine is the one that it is.
    reason: String,
    plans: Plans,
    /// Held while a plan is made, so that it is made once.
    building: Mutex<()>,
    batches: Vec<usize>,
    costs: Vec<RowCost>,
    independent_rows: bool,
    file_bytes: u64,
    first_shapes: Shapes,
    options: LoadOptions,
    _memory: Option<Reservation>,
}

impl std::fmt::Debug for Servable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Servable")
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .field("batches", &self.batches)
            .field("engine", &self.engine())
            .finish_non_exhaustive()
    }
}

impl Servable {
    /// Reads the file and loads it.
    ///
    /// # Errors
    /// [`LoadError`]; the file's size is looked at before it is read.
    pub fn open(path: &Path, options: &LoadOptions) -> Result<Self, LoadError> {
        Self::load(&read_file(path, options.max_model_bytes)?, options)
    }

    /// Loads a model: what it needs is checked, plans are made, and it runs once on zeros (warm start).
    ///
    /// # Errors
    /// [`LoadError`]: what tract can't run is named by node and operator before anything else is done. A model that makes tract panic is an error too.
    pub fn load(bytes: &[u8], options: &LoadOptions) -> Result<Self, LoadError> {
        let file_bytes = bytes.len() as u64;
        if file_bytes > options.max_model_bytes {
            return Err(LoadError::TooLarge {
                bytes: file_bytes,
                limit: options.max_model_bytes,
            });
        }
        let plain = expanded(bytes)?;
        let model = serve::ready(&plain).map_err(InferError::from)?;
        // The parsed graph holds the weights; those of a quantized or sparse file become floats.
        let memory = options.memory.reserve(file_bytes.max(model.as_bytes().len() as u64))?;
        let inputs = ports::inputs(&model)?;
        let onnx = check_ops(&model)?;
        let read = caught(|| onnx.model_for_read(&mut model.as_bytes())).map_err(|reason| LoadError::Fault { reason })?;
        let graph = read.map_err(|e| InferError::Graph { reason: chain(&e) })?;
        let outputs = model.outputs().to_vec();
        drop(model);
        let mut servable = Self {
            inputs,
            outputs: Vec::new(),
            graph: Some(graph),
            compiled: None,
            reason: String::new(),
            plans: Plans::default(),
            building: Mutex::default(),
            batches: vec![1],
            costs: Vec::new(),
            independent_rows: false,
            file_bytes,
            first_shapes: Vec::new(),
            options: options.clone(),
            _memory: Some(memory),
        };
        servable.first_run(&outputs)?;
        servable.choose(plain)?;
        servable.start()?;
        Ok(servable)
    }

    /// Chooses what computes from here on. tract has run the model by now, so that a model that it can't run is refused, whatever computes it here.
    fn choose(&mut self, model: Model) -> Result<(), LoadError> {
        if self.options.engine == Engine::Tract {
            "it was asked for".clone_into(&mut self.reason);
            return Ok(());
        }
        match self.try_plan(&model) {
            Ok((compiled, plan, reason)) => {
                self.plans.replace_first(&self.first_shapes, Arc::new(plan));
                self.compiled = Some(compiled);
                self.reason = reason;
                if self.only_the_batch_is_free() {
                    // The plan takes any batch: tract's weights are not needed any more.
                    self.graph = None;
                    self._memory = None;
                }
                Ok(())
            }
            Err(error) if self.options.engine == Engine::Plan => Err(error),
            Err(LoadError::Plan { reason }) => {
                self.reason = reason;
                Ok(())
            }
            Err(error) => {
                self.reason = error.to_string();
                Ok(())
            }
        }
    }

    /// The trainer's plan, where it computes what tract computes, and is faster or was asked for.
    fn try_plan(&self, model: &Model) -> Result<(Compiled, Ready, String), LoadError> {
        let refused = |reason: String| LoadError::Plan { reason };
        let (shapes, options) = (&self.first_shapes, &self.options);
        let mut compiled = Compiled::new(model, &self.inputs, &self.outputs, options.threads.max(1))?;
        let ours = Ready::Compiled(Box::new(compiled.plan(shapes, &options.memory)?));
        compiled.reserve(&options.memory)?;
        let theirs = self.plan(shapes)?;
        trial::agree(&theirs, &ours, &self.inputs, shapes, Tolerance::of(model)).map_err(refused)?;
        let inputs = trial::pattern(&self.inputs, shapes, 0).unwrap_or_default();
        let [plan_us, tract_us] = trial::times([&ours, &*theirs], &inputs).map_err(|e| LoadError::FirstRun(Box::new(e)))?;
        let times = format!("a run takes the plan {plan_us:.0} us, tract {tract_us:.0} us");
        let times = match &ours {
            Ready::Compiled(plan) if plan.interpreted() > 0 => {
                let n = plan.interpreted();
                format!("{times}; {n} of the plan's nodes are interpreted")
            }
            _ => times,
        };
        if options.engine == Engine::Auto && !trial::is_faster(plan_us, tract_us) {
            return Err(refused(times));
        }
        Ok((compiled, ours, times))
    }

    /// Whether rows may be joined, and the plans of batches in which they cost less.
    fn start(&mut self) -> Result<(), LoadError> {
        let batched = ports::share_a_batch(&self.inputs);
        let mut batches = self.options.batches.clone();
        batches.push(1);
        batches.retain(|&n| n > 0 && batched || n == 1);
        batches.sort_unstable();
        batches.dedup();
        self.independent_rows = batched && self.rows_are_independent();
        if self.independent_rows {
            self.warm(&batches)?;
        }
        self.plans.forget_later();
        let fixed = |port: &Port| port.axes.iter().all(|axis| matches!(axis, Axis::Fixed(_)));
        if self.inputs.iter().all(fixed) {
            // No other shape can come.
            self.graph = None;
            self._memory = None;
        }
        Ok(())
    }

    /// Makes plans of batches, and keeps those up to the one whose rows cost least.
    fn warm(&mut self, batches: &[usize]) -> Result<(), LoadError> {
        let mut ready = Vec::new();
        for &batch in batches {
            let shapes = self.with_batch(batch);
            let plan = match self.plan(&shapes) {
                Ok(plan) => plan,
                // What runs a row alone need not run many at once: the smaller batches are enough.
                Err(LoadError::Plan { .. } | LoadError::Memory(_) | LoadError::Value { .. }) if !ready.is_empty() => break,
                Err(error) => return Err(error),
            };
            let inputs = trial::pattern(&self.inputs, &shapes, 0).unwrap_or_default();
            let [micros] = trial::times([&*plan], &inputs).map_err(|e| LoadError::FirstRun(Box::new(e)))?;
            self.costs.push(RowCost {
                batch,
                row_us: micros / batch as f64,
            });
            ready.push((shapes, plan));
        }
        ready.truncate(trial::cheapest(&self.costs) + 1);
        self.batches = batches[..ready.len()].to_vec();
        self.plans.keep(ready);
        Ok(())
    }

    fn only_the_batch_is_free(&self) -> bool {
        let behind = |port: &Port| port.axes.iter().skip(1).all(|axis| matches!(axis, Axis::Fixed(_)));
        ports::share_a_batch(&self.inputs) && self.inputs.iter().all(behind)
    }

    /// Runs on zeros, with the lengths of free axes as given or guessed.
    fn first_run(&mut self, outputs: &[ValueInfo]) -> Result<(), LoadError> {
        let mut problem = None;
        for guess in GUESSES {
            let shapes: Shapes = self.inputs.iter().map(|port| self.shape_of(port, guess)).collect();
            match self.try_first(&shapes) {
                Ok((plan, ran)) => {
                    if ran.len() != outputs.len() {
                        let reason = format!("{} outputs came out, the file names {}", ran.len(), outputs.len());
                        return Err(InferError::Graph { reason }.into());
                    }
                    self.outputs = outputs.iter().zip(&ran).map(|(info, ran)| ports::output(info, ran)).collect();
                    self.plans.keep(vec![(shapes.clone(), plan)]);
                    self.first_shapes = shapes;
                    return Ok(());
                }
                // More memory is no question of the guess, and panics say nothing of it.
                Err(e @ (LoadError::Memory(_) | LoadError::Fault { .. })) => return Err(e),
                Err(e) => problem = problem.or(Some(e)),
            }
            if shapes == self.inputs.iter().map(|port| self.shape_of(port, usize::MAX)).collect::<Shapes>() {
                break;
            }
        }
        Err(problem.unwrap_or_else(|| LoadError::Fault {
            reason: "there was nothing to try".to_owned(),
        }))
    }

    fn try_first(&self, shapes: &Shapes) -> Result<(Arc<Ready>, Vec<Tensor>), LoadError> {
        let plan = self.build(shapes)?;
        let ran = plan
            .run(&zeros(&self.inputs, shapes)?)
            .map_err(|e| LoadError::FirstRun(Box::new(e)))?;
        Ok((Arc::new(plan), ran))
    }

    /// A shape for the first run: batch 1, free axes as given, or `guess`.
    fn shape_of(&self, port: &Port, guess: usize) -> Vec<usize> {
        let axes = port.axes.iter().enumerate();
        axes.map(|(i, axis)| match axis {
            Axis::Fixed(n) => *n,
            Axis::Free(Some(name)) if self.options.axes.contains_key(name) => self.options.axes[name].max(1),
            Axis::Free(_) if i == 0 => 1,
            Axis::Free(_) => guess,
        })
        .collect()
    }

    /// The shapes of the first run with another batch.
    fn with_batch(&self, batch: usize) -> Shapes {
        let mut shapes = self.first_shapes.clone();
        for shape in &mut shapes {
            if let Some(first) = shape.first_mut() {
                *first = batch;
            }
        }
        shapes
    }

    /// Whether two rows at once give what each gives alone: then requests may be joined.
    fn rows_are_independent(&self) -> bool {
        let one = self.with_batch(1);
        let pattern = |seed: usize| trial::pattern(&self.inputs, &one, seed);
        let compare = || {
            let (a, b) = (pattern(0)?, pattern(1)?);
            let both: Vec<Tensor> = a
                .iter()
                .zip(&b)
                .map(|(a, b)| Tensor::concat(&[a, b], 0).ok())
                .collect::<Option<_>>()?;
            let (a, b) = (self.run(&a).ok()?, self.run(&b).ok()?);
            let both = self.run(&both).ok()?;
            let same = both.iter().zip(a.iter().zip(&b)).all(|(both, (a, b))| {
                Tensor::concat(&[a, b], 0).is_ok_and(|alone| a.rows() == 1 && both.is_close(&alone, BATCH_TOLERANCE))
            });
            Some(same)
        };
        compare().unwrap_or(false)
    }

    /// What goes in, in the file's order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// What comes out, in the file's order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// What computes it: tract or the plan.
    pub fn engine(&self) -> Engine {
        if self.compiled.is_some() { Engine::Plan } else { Engine::Tract }
    }

    /// Why that one, for people.
    pub fn engine_reason(&self) -> &str {
        &self.reason
    }

    /// What a row costs at each batch size that was tried when the model was loaded; empty where requests are not joined.
    pub fn row_costs(&self) -> &[RowCost] {
        &self.costs
    }

    /// Most rows that are worth joining: the batch whose rows cost least, of those that were tried.
    pub fn best_batch(&self) -> usize {
        self.batches.last().copied().unwrap_or(1)
    }

    /// Batch sizes that are ready, ascending, up to the one whose rows cost least; only 1 where rows depend on each other or the batch is fixed.
    pub fn batches(&self) -> &[usize] {
        &self.batches
    }

    /// Whether the first axis is a free batch whose rows do not depend on each other: requests may be joined along it. It was tried when the model was loaded.
    pub fn has_independent_rows(&self) -> bool {
        self.independent_rows
    }

    /// Made-up inputs of the first run's shapes: the same seed gives the same.
    pub fn pattern(&self, seed: usize) -> Option<Vec<Tensor>> {
        let ports = self.inputs.iter().zip(&self.first_shapes);
        ports
            .map(|(port, shape)| made::patterned(port.datatype, shape.clone(), seed))
            .collect()
    }

    /// The shapes of the first run, input by input.
    pub fn first_shapes(&self) -> &[Vec<usize>] {
        &self.first_shapes
    }

    /// Checks inputs without running them.
    ///
    /// # Errors
    /// [`RunError`] that names the input.
    pub fn check(&self, inputs: &[Tensor]) -> Result<(), RunError> {
        ports::check(&self.inputs, inputs)
    }

    /// All outputs, in the file's order, for all inputs in the file's order.
    ///
    /// # Errors
    /// [`RunError`]. A plan for new shapes is made here; that takes longer than a run.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.check(inputs)?;
        let shapes: Shapes = inputs.iter().map(|tensor| tensor.shape().to_vec()).collect();
        let plan = self.plan(&shapes).map_err(|e| RunError::Plan(Box::new(e)))?;
        plan.run(inputs)
    }

    /// A run on an uneven pattern between -1 and 1 (integers 0 and 1), of the shapes of the first run.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn try_pattern(&self) -> Result<Vec<Tensor>, RunError> {
        self.run(&trial::pattern(&self.inputs, &self.first_shapes, 0).unwrap_or_default())
    }

    /// The plan for these shapes, made where there is none yet.
    fn plan(&self, shapes: &Shapes) -> Result<Arc<Ready>, LoadError> {
        if let Some(plan) = self.plans.known(shapes) {
            return Ok(plan);
        }
        let _one_at_a_time = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = self.plans.known(shapes) {
            return Ok(plan);
        }
        // Room is made before, not after: the least recently used one goes.
        self.plans.make_room(self.options.max_plans);
        let plan = match self.build(shapes) {
            Err(LoadError::Memory(_)) if self.plans.forget_later() => self.build(shapes),
            other => other,
        };
        let plan = Arc::new(plan?);
        self.plans.add(shapes, Arc::clone(&plan));
        Ok(plan)
    }

    fn build(&self, shapes: &Shapes) -> Result<Ready, LoadError> {
        if let Some(compiled) = &self.compiled {
            match compiled.plan(shapes, &self.options.memory) {
                Ok(plan) => return Ok(Ready::Compiled(Box::new(plan))),
                // What the plan does not take tract may, where it is still there.
                Err(LoadError::Plan { .. }) if self.graph.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        let graph = self.graph.clone().ok_or_else(|| InferError::Graph {
            reason: "the model has one shape only".to_owned(),
        })?;
        Plan::build(graph, &self.inputs, shapes, self.options.threads.max(1), &self.options.memory).map(Ready::Tract)
    }
}
