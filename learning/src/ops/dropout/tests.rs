use aimass_onnx::TrainableRules;
use aimass_onnx::proto::{AttributeProto, DataType, TensorProto};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::OptimizerConfig;
use crate::array::Array;
use crate::executor::{Cpu, Executor};
use crate::optimizer::Optimizer;
use crate::program::Graph;
use crate::testing::{floats, model, node};

#[test]
fn the_mask_says_what_stays_and_what_is_dropped_has_no_gradient() {
    let on = TensorProto {
        name: "on".to_owned(),
        data_type: DataType::Bool as i32,
        raw_data: vec![1u8].into(),
        ..TensorProto::default()
    };
    // y = (dropped, mask): before opset 10 the mask is made of floats, before 12 the ratio is an attribute.
    for opset in [7, 10, 13] {
        let (operands, attributes) = if opset < 12 {
            (&["h"][..], vec![AttributeProto::float("ratio", 0.25)])
        } else {
            (&["h", "ratio", "on"][..], vec![])
        };
        let mut dropout = node("Dropout", operands, "d", attributes);
        dropout.output.push("m".to_owned());
        let cast = match opset {
            7 => node("Identity", &["m"], "f", vec![]),
            _ => node("Cast", &["m"], "f", vec![AttributeProto::int("to", 1)]),
        };
        let nodes = vec![
            node("Mul", &["x", "w"], "h", vec![]),
            dropout,
            cast,
            node("Concat", &["d", "f"], "y", vec![AttributeProto::int("axis", 0)]),
        ];
        let weights = floats("w", &[1, 400], &[3.0; 400]);
        let model = model(opset, &[-1, 400], nodes, vec![weights, floats("ratio", &[], &[0.25]), on.clone()]);
        let rules = TrainableRules::new(&["w".to_owned()]).expect("a glob");
        let layout = model.layout(&rules).expect("a weight");
        let mut executor = Executor::<Cpu>::new(Graph::new(&model, Some(&layout)).expect("a graph"));
        let x = Array::floats(vec![1, 400], vec![2.0; 400]).expect("a row");
        let mut y = Vec::new();
        let (mut noise, mut optimizer) = (ChaCha20Rng::from_seed([3; 32]), Optimizer::new(OptimizerConfig::sgd(1.0)));
        executor
            .step(vec![x], true, &mut optimizer, &mut noise, |outputs| {
                y = outputs[0].as_floats().expect("floats").to_vec();
                Ok(vec![Some(vec![1.0; 800])])
            })
            .expect("a step");
        let (dropped, mask) = y.split_at(400);
        let stay = mask.iter().filter(|&&m| m == 1.0).count();
        assert!((260..340).contains(&stay), "{stay} of 400 stay at a ratio of 0.25");
        let mut after = vec![0.0; 400];
        executor.read_weights(&mut after).expect("the CPU does not fail");
        for ((dropped, mask), after) in dropped.iter().zip(mask).zip(after) {
            assert_eq!(*dropped, mask * 8.0, "opset {opset}");
            assert!((3.0 - after - mask * 2.0 / 0.75).abs() < 1e-5, "opset {opset}: {after}");
        }
    }
}
