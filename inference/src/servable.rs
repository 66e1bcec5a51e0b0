//! A model loaded once and run many times, from several threads: what serving, compression and canaries run.

mod budget;
mod error;
mod made;
mod plan;
mod ports;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aimass_onnx::ValueInfo;
use tract_onnx::prelude::{Framework, InferenceModel};

use self::made::{patterned, zeros};
use self::plan::Plan;
use crate::guard::caught;
use crate::tensor::Tensor;
use crate::{InferError, as_served, chain, check_ops};

pub use budget::{MemoryBudget, OverBudget, Reservation};
pub use error::{LoadError, RunError};
pub use made::read_file;
pub use ports::{Axis, Port};

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
}

impl Default for LoadOptions {
    /// 2 GiB, one thread, batches of 1, 8 more plans, no memory cap.
    fn default() -> Self {
        Self {
            max_model_bytes: 2 << 30,
            threads: 1,
            batches: vec![1],
            axes: BTreeMap::new(),
            max_plans: 8,
            memory: MemoryBudget::unlimited(),
        }
    }
}

/// Shapes of all inputs.
type Shapes = Vec<Vec<usize>>;

/// Plans by shapes, the most recently used first.
#[derive(Default)]
struct Plans {
    /// Made when the model was loaded: they stay.
    first: Vec<(Shapes, Arc<Plan>)>,
    later: Vec<(Shapes, Arc<Plan>)>,
}

/// A model that runs. Runs may be made from several threads at once.
pub struct Servable {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    /// What plans are made of; `None` where the one plan is made already.
    graph: Option<InferenceModel>,
    plans: Mutex<Plans>,
    /// Held while a plan is made, so that it is made once.
    building: Mutex<()>,
    batches: Vec<usize>,
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
        let model = as_served(bytes)?;
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
            plans: Mutex::default(),
            building: Mutex::default(),
            batches: vec![1],
            independent_rows: false,
            file_bytes,
            first_shapes: Vec::new(),
            options: options.clone(),
            _memory: Some(memory),
        };
        servable.start(&outputs)?;
        Ok(servable)
    }

    /// The first plans and the first run.
    fn start(&mut self, outputs: &[ValueInfo]) -> Result<(), LoadError> {
        let batched = ports::share_a_batch(&self.inputs);
        let mut batches = self.options.batches.clone();
        batches.push(1);
        batches.retain(|&n| n > 0 && batched || n == 1);
        batches.sort_unstable();
        batches.dedup();
        self.first_run(outputs)?;
        self.independent_rows = batched && self.rows_are_independent();
        if self.independent_rows {
            for &batch in &batches[1..] {
                let shapes = self.with_batch(batch);
                let plan = self.plan(&shapes)?;
                plan.run(&zeros(&self.inputs, &shapes)?)
                    .map_err(|e| LoadError::FirstRun(Box::new(e)))?;
                self.lock().first.push((shapes, plan));
            }
            self.batches = batches;
        }
        self.lock().later.clear();
        if self
            .inputs
            .iter()
            .all(|port| port.axes.iter().all(|axis| matches!(axis, Axis::Fixed(_))))
        {
            // No other shape can come.
            self.graph = None;
            self._memory = None;
        }
        Ok(())
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
                    self.lock().first.push((shapes.clone(), plan));
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

    fn try_first(&self, shapes: &Shapes) -> Result<(Arc<Plan>, Vec<Tensor>), LoadError> {
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
        let pattern = |seed: usize| -> Option<Vec<Tensor>> {
            let inputs = self.inputs.iter().zip(&one);
            inputs.map(|(port, shape)| patterned(port.datatype, shape.clone(), seed)).collect()
        };
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

    /// Batch sizes that are ready, ascending; only 1 where rows depend on each other or the batch is fixed.
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
        ports.map(|(port, shape)| patterned(port.datatype, shape.clone(), seed)).collect()
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
        let inputs = self.inputs.iter().zip(&self.first_shapes);
        let inputs: Option<Vec<Tensor>> = inputs.map(|(port, shape)| patterned(port.datatype, shape.clone(), 0)).collect();
        self.run(&inputs.unwrap_or_default())
    }

    fn lock(&self) -> MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan for these shapes, made where there is none yet.
    fn plan(&self, shapes: &Shapes) -> Result<Arc<Plan>, LoadError> {
        if let Some(plan) = self.known(shapes) {
            return Ok(plan);
        }
        let _one_at_a_time = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = self.known(shapes) {
            return Ok(plan);
        }
        // Room is made before, not after: the least recently used one goes.
        self.lock().later.truncate(self.options.max_plans.max(1) - 1);
        let plan = match self.build(shapes) {
            Err(LoadError::Memory(_)) if !self.lock().later.is_empty() => {
                self.lock().later.clear();
                self.build(shapes)
            }
            other => other,
        };
        let plan = Arc::new(plan?);
        self.lock().later.insert(0, (shapes.clone(), Arc::clone(&plan)));
        Ok(plan)
    }

    fn known(&self, shapes: &Shapes) -> Option<Arc<Plan>> {
        let mut plans = self.lock();
        if let Some((_, plan)) = plans.first.iter().find(|(known, _)| known == shapes) {
            return Some(Arc::clone(plan));
        }
        let at = plans.later.iter().position(|(known, _)| known == shapes)?;
        let found = plans.later.remove(at);
        let plan = Arc::clone(&found.1);
        plans.later.insert(0, found);
        Some(plan)
    }

    fn build(&self, shapes: &Shapes) -> Result<Plan, LoadError> {
        let graph = self.graph.clone().ok_or_else(|| InferError::Graph {
            reason: "the model has one shape only".to_owned(),
        })?;
        Plan::build(graph, &self.inputs, shapes, self.options.threads.max(1), &self.options.memory)
    }
}
