//! A model that is run on rows of data, row by row as a device meets them, whatever batch its file fixes.

use aimass_learning::Array;

use crate::servable::{Axis, Engine, LoadError, LoadOptions, Port, RunError, Servable};
use crate::tensor::{Data, Datatype, Tensor};

/// A model that takes rows, run by tract: the first axis of each input and output is that of the rows.
#[derive(Debug)]
pub struct RowModel {
    servable: Servable,
    /// Rows of a run: what the file fixes, or 1.
    batch: usize,
}

impl RowModel {
    /// # Errors
    /// [`LoadError`] with the operator by name where tract has none.
    pub fn load(bytes: &[u8]) -> Result<Self, LoadError> {
        Self::with_batch(bytes, 1)
    }

    /// The same for `batch` rows a run, where the file does not fix another number.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn with_batch(bytes: &[u8], batch: usize) -> Result<Self, LoadError> {
        let servable = Servable::load(
            bytes,
            &LoadOptions {
                engine: Engine::Tract,
                ..LoadOptions::default()
            },
        )?;
        let fixed = servable.inputs().iter().find_map(|port| match port.axes.first() {
            Some(Axis::Fixed(n)) => Some(*n),
            _ => None,
        });
        let batch = fixed.unwrap_or(batch).max(1);
        Ok(Self { servable, batch })
    }

    /// Names of the inputs, in the file's order.
    pub fn inputs(&self) -> Vec<String> {
        self.servable.inputs().iter().map(|port| port.name.clone()).collect()
    }

    /// Bytes of the file.
    pub fn file_bytes(&self) -> u64 {
        self.servable.file_bytes()
    }

    /// `rows` rows that are made up: floats from `values(input, n)`, which gives `n` numbers for the input of that index; integers are 1 where the number is
    /// not negative, else 0, which most tables have a row for. Free axes are as long as in the model's first run.
    pub fn made_up(&self, rows: usize, values: impl Fn(usize, usize) -> Vec<f32>) -> Option<Vec<Tensor>> {
        let ports = self.servable.inputs().iter().zip(self.servable.first_shapes()).enumerate();
        let made = ports.map(|(at, (port, first))| {
            let mut shape = first.clone();
            *shape.first_mut()? = rows;
            let values = values(at, crate::tensor::count(&shape).ok()?);
            let bits = values.iter().map(|value| *value >= 0.0);
            let data = match port.datatype {
                Datatype::F32 => Data::F32(values),
                Datatype::F64 => Data::F64(values.into_iter().map(f64::from).collect()),
                Datatype::Bool => Data::Bool(bits.collect()),
                Datatype::U8 => Data::U8(bits.map(u8::from).collect()),
                Datatype::I8 => Data::I8(bits.map(i8::from).collect()),
                Datatype::I32 => Data::I32(bits.map(i32::from).collect()),
                Datatype::I64 => Data::I64(bits.map(i64::from).collect()),
            };
            Tensor::new(shape, data).ok()
        });
        made.collect()
    }

    /// Rows as the trainer's data has them, an array for each of [`Self::inputs`], as the model takes them: integers of its width, flat rows in its shape.
    ///
    /// # Errors
    /// [`RunError`] that names the input.
    pub fn feed(&self, arrays: &[Array]) -> Result<Vec<Tensor>, RunError> {
        let ports = self.servable.inputs();
        if arrays.len() != ports.len() {
            return Err(RunError::Inputs {
                wanted: ports.len(),
                found: arrays.len(),
            });
        }
        ports.iter().zip(arrays).map(|(port, array)| fed(port, array)).collect()
    }

    /// Runs' inputs: each [`Self::batch`] rows, the last filled up with its last row.
    ///
    /// # Errors
    /// [`RunError`] for inputs of different lengths.
    pub fn pieces(&self, inputs: &[Tensor]) -> Result<Vec<Vec<Tensor>>, RunError> {
        let rows = inputs.first().map_or(0, Tensor::rows);
        if let Some(other) = inputs.iter().position(|input| input.rows() != rows) {
            return Err(RunError::Symbol {
                symbol: "rows".to_owned(),
                one: self.servable.inputs()[0].name.clone(),
                one_len: rows,
                other: self.servable.inputs()[other].name.clone(),
                other_len: inputs[other].rows(),
            });
        }
        let piece = |start: usize| {
            let end = (start + self.batch).min(rows);
            inputs.iter().map(move |input| {
                let own = input.slice(0, start, end)?;
                let last = input.slice(0, end - 1, end)?;
                let parts: Vec<&Tensor> = std::iter::once(&own)
                    .chain(std::iter::repeat_n(&last, self.batch - (end - start)))
                    .collect();
                Ok(Tensor::concat(&parts, 0)?)
            })
        };
        (0..rows).step_by(self.batch).map(|start| piece(start).collect()).collect()
    }

    /// Rows of a run.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// All outputs of one piece.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn run_piece(&self, piece: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        self.servable.run(piece)
    }

    /// All outputs for all rows, in the file's order; none for no rows.
    ///
    /// # Errors
    /// [`RunError`]; [`RunError::Rows`] for an output that has no row for each.
    pub fn run(&self, inputs: &[Tensor]) -> Result<Vec<Array>, RunError> {
        let rows = inputs.first().map_or(0, Tensor::rows);
        let pieces = self.pieces(inputs)?;
        let ran: Vec<Vec<Tensor>> = pieces.iter().map(|piece| self.run_piece(piece)).collect::<Result<_, _>>()?;
        let outputs = if ran.is_empty() { 0 } else { self.servable.outputs().len() };
        (0..outputs).map(|output| self.joined(&ran, output, rows)).collect()
    }

    fn joined(&self, ran: &[Vec<Tensor>], output: usize, rows: usize) -> Result<Array, RunError> {
        let wrong = || RunError::Rows {
            output: self.servable.outputs()[output].name.clone(),
            rows: self.batch,
        };
        let parts: Option<Vec<&Tensor>> = ran.iter().map(|outputs| outputs.get(output)).collect();
        let parts = parts.filter(|parts| parts.iter().all(|part| !part.shape().is_empty() && part.rows() == self.batch));
        let all = Tensor::concat(&parts.ok_or_else(wrong)?, 0)?.slice(0, 0, rows)?;
        all.to_array().ok_or_else(wrong)
    }
}

fn fed(port: &Port, array: &Array) -> Result<Tensor, RunError> {
    let misfit = || RunError::Shape {
        input: port.name.clone(),
        wanted: port.axes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        found: array.shape().to_vec(),
    };
    let tensor = Tensor::of_array(array.clone(), port.datatype).map_err(|e| RunError::Values {
        input: port.name.clone(),
        reason: e.to_string(),
    })?;
    let (shape, axes) = (tensor.shape(), &port.axes);
    let fits = |len: usize, axis: &Axis| matches!(axis, Axis::Free(_)) || *axis == Axis::Fixed(len);
    // The first axis is that of the rows, which are cut as the file wants them.
    let is_shaped = shape.len() == axes.len() && shape.iter().zip(axes).skip(1).all(|(len, axis)| fits(*len, axis));
    if is_shaped {
        return Ok(tensor);
    }
    let fixed = axes.iter().skip(1).map(|axis| match axis {
        Axis::Fixed(n) => Some(*n),
        Axis::Free(_) => None,
    });
    let row: Vec<usize> = fixed.collect::<Option<_>>().ok_or_else(misfit)?;
    let flat = shape.len() == 2 && row.iter().product::<usize>() == shape[1];
    if !flat || axes.is_empty() {
        return Err(misfit());
    }
    let shape: Vec<usize> = std::iter::once(shape[0]).chain(row).collect();
    Ok(Tensor::new(shape, tensor.into_data())?)
}

#[cfg(test)]
mod tests;
