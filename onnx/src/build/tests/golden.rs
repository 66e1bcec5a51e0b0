//! The same seed gives the same bytes: in every version, on every machine.

use super::*;

fn sha256(model: &Model) -> String {
    hex::encode(ring::digest::digest(&ring::digest::SHA256, model.as_bytes()))
}

/// Of the first version of these two functions, which runs are compared by.
#[test]
fn the_first_models_have_the_bytes_they_always_had() {
    let mlps = [(&[64, 64, 10][..], 1), (&[784, 200, 200, 10], 3), (&[5, 2], 9)].map(|(sizes, seed)| sha256(&mlp(sizes, seed)));
    assert_eq!(
        mlps,
        [
            "79d25d779cef672866d15416856b7018874f884bc1ac32b32f35dc8a73fc7fc2",
            "1cb4bc406f028ac10fc38fa750884333a76a49e647001737cd02c8adeae84af9",
            "0ca776c282d891e0f4a06a55a4663b98f487c4f6b6f588d53a7f91e6914c7f18",
        ]
    );
    let cnns = [1, u64::MAX].map(|seed| sha256(&cnn_mcmahan(seed)));
    assert_eq!(
        cnns,
        [
            "44e5ccc66b75572dbb90b17c43fff28bc00b173cc300433f30030b240d92e72e",
            "eb22883a4e8e67188e86999dac63e2a7c27ab91cb4ec0b29f8573a022aa2f8d8",
        ]
    );
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_does_not() {
    let [once, again, other] = [7, 7, 8].map(|seed| variants(InitialWeights::seeded(seed)));
    for (((kind, once), (_, again)), (_, other)) in once.into_iter().zip(again).zip(other) {
        let [once, again, other] = [once, again, other].map(|model| model.map(|model| model.bytes()));
        assert_eq!(once, again, "{kind}");
        assert_ne!(once, other, "{kind}");
    }
}

#[test]
fn each_architecture_has_its_bytes() {
    let found: Vec<(&str, String)> = every(InitialWeights::seeded(1))
        .iter()
        .map(|(kind, model)| (*kind, sha256(model)))
        .collect();
    let expected = [
        ("linear", "5eaa3648abf641a35be384aae43d7739f2a43046bfb56fddb342073f69be8b5a"),
        ("logistic", "a6d0ab6734e0a750e0fd0e64522f733631f7adca990ba8aa6e1072ad89a1bc67"),
        ("mlp", "f3f3f09068f1dcbc052ab272845091da5d2ee253f79ef6f3c1f88ce9c394101c"),
        ("cnn", "67cae3f1690aeb4e46a4a9b6a3070c25938f489eebc9a72e359e6b21d8c9e543"),
        ("cnn-mcmahan", "44e5ccc66b75572dbb90b17c43fff28bc00b173cc300433f30030b240d92e72e"),
        ("lenet", "78e342495f615c5cc59b120e537948c802d3e615d62b56bc4b6f2d538401d5d0"),
        ("resnet18", "4eeaa5add4fa000fc894a670f24ba5cf057b00b3f110973719c97435acfc1973"),
        ("mobilenetv2", "0bc710a68d13db04f6a88548aee58960409066f3a7105355ffb194b53ba0eb35"),
        ("conv1d", "ce730bacd6dbf563bb0b79ad14a55884b73f345cc33a58f79824592f5d02ff89"),
        ("autoencoder", "b968bd528eac13c813de3ffe14d82085a9f23776e4afe3a52a8662a86ce9a63c"),
        ("lstm-lm", "36fc9ab964a6221ed3bba597d42828785b420f89f1901096168e968387fbff17"),
        ("gru-lm", "54491270f1493e27a97a62944a6fe405d4cc5112faf1a6eff7f06bcc9525d5c3"),
        ("lstm", "8c87a0fa92bf02aca12a2febe7d926bbd0f0e8fa62cd667d2d6869813a9866c2"),
        ("gru", "7f876f9ba7fa2a6e8a1deaf5e81622942a8a32ba5b2c612cdeb0dffef80bce0e"),
        ("transformer", "76c508e8523a2cd7df9473d6892ba52214a102cde59c11eb3deb6f46e4933032"),
        ("transformer-lm", "3a8817c0e35ec85ae9f39897bdb53d01a2ecc6400f46c563cfcf6f2c3371170b"),
        ("recommender", "5e89d7cfdaf093c5188c7e9abadea11cf91795d6dedb5905a205a8b2e7aa9412"),
        ("gcn", "699662152c5735bc060b1df74e8a8ea9de8e36f160a2164cc32b4a2053ac5335"),
        (
            "mlp with everything",
            "a522ba315c6e35382d6210e89393d9f17491f5f44a938171b837ebf863992105",
        ),
        (
            "cnn with everything",
            "9838d5ebae82f480f2a8b514885eb002894416e4c1f7afbc5c41bc7afe7353d0",
        ),
        (
            "lenet for colours",
            "6910b50a387afb2439487df3359f9183f2c33dac8672a5a1aaaa46c0c230f874",
        ),
        (
            "narrow resnet18",
            "8ee6bd16bdb7bd8d4e9cddb07604028396be59f0da9f0e70684b0e723138efb4",
        ),
        (
            "narrow mobilenetv2",
            "e10889f0028dbf087c374845a70a1508dbbe1644d2a382e6aa2e4d0d3b6f3057",
        ),
        (
            "conv1d with everything",
            "e5d5c12dcdc9e3731ec18a7004cc7634046ba17ba5ea5aa0133eeec011a66bfb",
        ),
        (
            "autoencoder without bottleneck",
            "c4c1deddf2ae5d993ebe1aa4d41353e62a7dc5e308c57f295d40fc3f5728867d",
        ),
        (
            "lstm with everything",
            "76b73ac1e6f8a99818a3cd4b26398165a67b8226eb782ad392fb8eec99b91323",
        ),
        (
            "gru with everything",
            "85162a8be885c47cea6820fd0d72296199479825be50bd898201123827c0d356",
        ),
        (
            "lstm-lm with dropout",
            "4e4adb05055788d04d03ac7d922674e5f1d7aee9b4ab33d41992f393a503daf9",
        ),
        (
            "transformer with dropout",
            "947ea05d6ef0a45072671fe8b9b0e8c5e57a1871e9ead8f95929d53b003aca64",
        ),
        (
            "transformer-lm with dropout",
            "7d954d0ea37688be472e394ac84750f9726423934a785939c95d2171e1d4eb0d",
        ),
        ("gcn of graphs", "2a65363b2509c10d080776934a6af71d3e18a013868f58b6b48ac80ebb005caf"),
    ];
    assert_eq!(
        found.iter().map(|(kind, digest)| (*kind, digest.as_str())).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn each_initialization_has_its_bytes() {
    let found: Vec<(&str, String)> = Init::ALL
        .iter()
        .map(|&init| {
            let lm = RecurrentLm {
                vocabulary: 11,
                embedding: 7,
                hidden: 5,
                ..RecurrentLm::new(Cell::Gru)
            };
            let model = lm.build(InitialWeights { init, seed: 4 }).expect("small sizes");
            (init.name(), sha256(&model))
        })
        .collect();
    let expected = [
        ("default", "af69b15e78fe10a0856075aa740f2d94aed01046bf252b203156e56f980527cb"),
        ("he-uniform", "6e9c1172f43a6850a21be698c3258aa6fe092780b15bcbb95f7d8ebabb07297e"),
        ("he-normal", "2a0a134a16c16705d06ef56a6aff18ca2378ee2335aef24d8ee6efde5cd8b4a0"),
        ("glorot-uniform", "36146171cd8a1133fa46bbbc23633a8200fd07687a5d30365d3fbd2a6ad81190"),
        ("glorot-normal", "e7f9327bd84fa8fb93f4f02e5efb691609f60ef358ed11afa24a8cd30176d070"),
        ("orthogonal", "9056ff5b5b78dd9c06e0ecf0160b40ef841c8f1010d01edf7d7fedcdba76fdd5"),
    ];
    assert_eq!(
        found.iter().map(|(kind, digest)| (*kind, digest.as_str())).collect::<Vec<_>>(),
        expected
    );
}
