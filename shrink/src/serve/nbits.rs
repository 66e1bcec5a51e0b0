//! MatMulNBits: weights of few bits, a scale a block.

use aimass_onnx::proto::NodeProto;
use aimass_onnx::{MAX_MODEL_BYTES, TensorRef};

use super::ServeError;
use crate::parts::{IntType, Ints, MICROSOFT, Names, giving, node};

/// The weight of a MatMulNBits in float32, as a MatMul reads it.
pub(crate) struct Matrix {
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// `[k, n]` row-major.
    pub(crate) values: Vec<f32>,
}

impl Matrix {
    /// The nodes that compute the same from the float matrix called `weight`.
    pub(crate) fn nodes(&self, product: &NodeProto, weight: &str, names: &mut Names) -> Vec<NodeProto> {
        let (Some(input), Some(output)) = (product.input_name(0), product.output.first()) else {
            return Vec::new();
        };
        match product.input_name(5) {
            Some(bias) => {
                let given = names.fresh(&format!("{output}/product"));
                vec![
                    node("MatMul", &[input, weight], &given),
                    giving("Add", &[&given, bias], output, names),
                ]
            }
            None => vec![giving("MatMul", &[input, weight], output, names)],
        }
    }
}

/// Whether a node is one.
pub(crate) fn is_nbits(node: &NodeProto) -> bool {
    node.domain == MICROSOFT && node.op_type == "MatMulNBits"
}

/// The weight of a MatMulNBits: `(q - zero point) * scale`, the zero point 2^(bits - 1) where there is none.
///
/// # Source
/// onnxruntime's `docs/ContribOperators.md`, com.microsoft.MatMulNBits.
pub(crate) fn nbits<'m>(product: &NodeProto, constant: &impl Fn(&str) -> Option<TensorRef<'m>>) -> Result<Matrix, ServeError> {
    let wrong = |problem: String| ServeError::parameter(product, problem);
    let size = |name: &str| {
        let value = product
            .attr_i(name)?
            .ok_or_else(|| wrong(format!("its attribute {name:?} is missing")))?;
        let value = usize::try_from(value).ok().filter(|&value| value > 0 && value <= 1 << 30);
        value.ok_or_else(|| wrong(format!("its attribute {name:?} is not between 1 and 2^30")))
    };
    let (k, n, block) = (size("K")?, size("N")?, size("block_size")?);
    let kind = match product.attr_i("bits")?.unwrap_or(4) {
        2 => IntType::U2,
        4 => IntType::U4,
        8 => IntType::U8,
        bits => {
            return Err(ServeError::unsupported(
                product,
                format!("it has {bits} bits; quantize to 2, 4 or 8"),
            ));
        }
    };
    if block < 16 || !block.is_power_of_two() {
        return Err(wrong(format!("its block size {block} is not a power of two from 16 up")));
    }
    if product.input_name(4).is_some() {
        return Err(ServeError::unsupported(
            product,
            "its rows are reordered (g_idx); quantize without act-order",
        ));
    }
    if k.saturating_mul(n).saturating_mul(4) > MAX_MODEL_BYTES {
        return Err(ServeError::unsupported(
            product,
            format!("its float32 matrix would have more than {MAX_MODEL_BYTES} bytes; split it"),
        ));
    }
    let blocks = k.div_ceil(block);
    let blob = block * kind.bits() as usize / 8;
    let tensor = |input: usize, what: &str| {
        let name = product.input_name(input).ok_or_else(|| wrong(format!("its {what} is missing")))?;
        constant(name).ok_or_else(|| ServeError::computed(product, what, name))
    };
    let bytes = tensor(1, "weight")?;
    let bytes = Ints::of(&bytes)
        .filter(|ints| ints.kind == IntType::U8)
        .ok_or_else(|| wrong("its weight is not uint8".to_owned()))?;
    let expect = |what: &str, expected: Option<usize>, found: usize| match expected == Some(found) {
        true => Ok(()),
        false => Err(wrong(format!(
            "its {what} has {found} values, its attributes ask for {}",
            expected.unwrap_or(usize::MAX)
        ))),
    };
    let n_blocks = n.checked_mul(blocks);
    expect("weight", n_blocks.and_then(|all| all.checked_mul(blob)), bytes.values.len())?;
    let scales = tensor(2, "scales")?;
    let Some(scales) = scales.to_f32() else {
        return Err(ServeError::unsupported(
            product,
            format!("its scales are {}; export the model in float32", scales.element),
        ));
    };
    expect("scales", n_blocks, scales.len())?;
    // Unlike elsewhere a scale may be negative, so that -8 is the value of largest magnitude, or 0, for a block of zeros.
    if let Some(at) = scales.iter().position(|scale| !scale.is_finite()) {
        return Err(wrong(format!("scale {at} is {}, not a number", scales[at])));
    }
    let zeros = zeros(product, kind, n, blocks, constant)?;
    let mut values = vec![0f32; k * n];
    for column in 0..n {
        for row in 0..k {
            let at = column * blocks + row / block;
            let place = at * block + row % block;
            let level = field(&bytes.values, place, kind);
            values[row * n + column] = (level - zeros[at]) * scales[at];
        }
    }
    Ok(Matrix { k, n, values })
}

/// The value of a few bits at `place` of packed bytes.
fn field(bytes: &[i32], place: usize, kind: IntType) -> f32 {
    let bits = kind.bits() as usize;
    let per_byte = 8 / bits;
    let byte = bytes[place / per_byte] >> (bits * (place % per_byte));
    (byte & ((1 << bits) - 1)) as f32
}

/// Zero points `[n, blocks]`: none, packed like the weights with whole bytes a column, or as floats.
fn zeros<'m>(
    product: &NodeProto,
    kind: IntType,
    n: usize,
    blocks: usize,
    constant: &impl Fn(&str) -> Option<TensorRef<'m>>,
) -> Result<Vec<f32>, ServeError> {
    let middle = (1 << (kind.bits() - 1)) as f32;
    let Some(name) = product.input_name(3) else {
        return Ok(vec![middle; n * blocks]);
    };
    let tensor = constant(name).ok_or_else(|| ServeError::computed(product, "zero points", name))?;
    let (found, expected, values) = if let Some(floats) = tensor.to_f32() {
        (floats.len(), n * blocks, floats)
    } else {
        let bytes = Ints::of(&tensor).filter(|ints| ints.kind == IntType::U8);
        let bytes = bytes
            .ok_or_else(|| ServeError::parameter(product, "its zero points are neither uint8 nor float32"))?
            .values;
        let per_column = (blocks * kind.bits() as usize).div_ceil(8);
        let (found, expected) = (bytes.len(), n * per_column);
        let one = |column: usize, block: usize| field(&bytes[column * per_column..], block, kind);
        let values = match found == expected {
            true => (0..n)
                .flat_map(|column| (0..blocks).map(move |block| (column, block)))
                .map(|(c, b)| one(c, b))
                .collect(),
            false => Vec::new(),
        };
        (found, expected, values)
    };
    if found != expected {
        let problem = format!("its zero points have {found} values, its attributes ask for {expected}");
        return Err(ServeError::parameter(product, problem));
    }
    if values.iter().any(|value| !value.is_finite()) {
        return Err(ServeError::parameter(product, "a zero point is not a number"));
    }
    Ok(values)
}
