//! `[train.distil]`, `[compress.distil]` and `[strategy] name = "feddf"`: what they may say.

use super::*;

const DATA: &str = "[evaluate]\ndata = \"test.csv\"\n";
const FEDDF: &str = "[strategy]\nname = \"feddf\"\ndata = \"public.csv\"\n";

fn with(sections: &str) -> Result<JobFile, JobFileError> {
    JobFile::parse(&format!("{SMALL}{sections}"))
}

fn refused(sections: &str, field: &str, problem: &str) {
    let error = with(sections).expect_err(sections);
    assert_eq!(error.field, field, "{error}");
    assert!(error.to_string().contains(problem), "{error}");
}

#[test]
fn should_fill_in_what_is_not_said_of_a_teacher() {
    let file = with("[train.distil]\nteacher = \"big/teacher.onnx\"\n").expect("right");
    let teacher = AttachedFile {
        path: "big/teacher.onnx".to_owned(),
        pinned: None,
    };
    assert_eq!(
        file.train.distil,
        Some(DistilSection {
            teacher: teacher.clone(),
            temperature: 4.0,
            alpha: 0.7
        })
    );
    assert_eq!(file.attached().collect::<Vec<_>>(), [("train.distil", &teacher)]);
    assert_eq!(small().attached().count(), 0);
}

#[test]
fn should_know_the_bytes_of_files_that_are_pinned() {
    let pinned = format!("digest = \"{}\"\nsize_bytes = 12\n", "ab".repeat(32));
    let text =
        format!("{DATA}{FEDDF}{pinned}[train.distil]\nteacher = \"t.onnx\"\n{pinned}[compress.distil]\nstudent = \"s.onnx\"\n{pinned}");
    let file = with(&text).expect("right");
    let expected = Some(Pinned {
        digest: Digest::from_bytes([0xab; 32]),
        size_bytes: 12,
    });
    let found: Vec<_> = file
        .attached()
        .map(|(section, file)| (section, file.path.as_str(), file.pinned))
        .collect();
    assert_eq!(
        found,
        [
            ("train.distil", "t.onnx", expected),
            ("compress.distil", "s.onnx", expected),
            ("strategy", "public.csv", expected)
        ]
    );
}

#[test]
fn should_take_a_student_as_the_only_step_and_say_so_in_a_line() {
    let section = with(&format!("{DATA}[compress.distil]\nstudent = \"s.onnx\"\nlr = 0.01\n"))
        .expect("right")
        .compress
        .expect("the section");
    assert_eq!(
        section.distil.as_ref().map(|distil| (distil.epochs, distil.lr)),
        Some((10, Some(0.01)))
    );
    assert_eq!(
        section.to_string(),
        "distil = { temperature = 4, alpha = 0.7, epochs = 10, lr = 0.01 }, epochs = 1"
    );
}

#[test]
fn should_fuse_groups_of_rounds_that_train_from_one_model() {
    let file = with(&format!("{FEDDF}groups = 5\n")).expect("right");
    let fusion = file.strategy.fusion.as_ref().expect("the strategy's");
    assert_eq!((fusion.temperature, fusion.lr, fusion.epochs, fusion.batch), (1.0, 0.001, 1, None));
    let kept: Vec<u32> = (1..=10).filter(|round| file.keeps_its_base(*round)).collect();
    assert_eq!(kept, [1, 2, 3, 4, 6, 7, 8, 9]);
    let other = small();
    assert_eq!((other.rounds_a_model(), other.keeps_its_base(1)), (1, false));
}

#[test]
fn should_refuse_what_can_not_be_with_key_and_fix() {
    let teacher = "[train.distil]\nteacher = \"t.onnx\"\n";
    for (sections, field, problem) in [
        ("[train.distil]\nalpha = 0.5\n".to_owned(), "train.distil.teacher", "is missing"),
        (format!("{teacher}temperature = 0\n"), "train.distil.temperature", "above 0"),
        (format!("{teacher}temperature = nan\n"), "train.distil.temperature", "above 0"),
        (format!("{teacher}alpha = 0\n"), "train.distil.alpha", "above 0 and up to 1"),
        (format!("{teacher}alpha = 1.5\n"), "train.distil.alpha", "above 0 and up to 1"),
        (format!("{teacher}size_bytes = 3\n"), "train.distil.digest", "remove size_bytes"),
        (
            format!("{teacher}digest = \"ab\"\nsize_bytes = 3\n"),
            "train.distil.digest",
            "is no SHA-256",
        ),
        (
            format!("{teacher}digest = \"{}\"\n", "ab".repeat(32)),
            "train.distil.size_bytes",
            "remove digest",
        ),
        (
            "[train.distil]\nteacher = \"../t.onnx\"\n".to_owned(),
            "train.distil.teacher",
            "leaves the job file's folder",
        ),
        (format!("{teacher}student = \"s.onnx\"\n"), "train.distil.student", "unknown key"),
        (
            "[compress.distil]\nstudent = \"s.onnx\"\n".to_owned(),
            "compress.distil.student",
            "data that the server has",
        ),
        (
            format!("{DATA}[compress.distil]\nstudent = \"s.onnx\"\nepochs = 0\n"),
            "compress.distil.epochs",
            "use 1 to 1000",
        ),
        ("[strategy]\nname = \"feddf\"\n".to_owned(), "strategy.data", "is missing"),
        (format!("{FEDDF}groups = 1\n"), "strategy.groups", "use 2 to 64"),
        (
            format!("{FEDDF}groups = 3\n"),
            "strategy.groups",
            "a multiple of 3 rounds, for instance 12",
        ),
        (format!("{FEDDF}server_lr = 0.5\n"), "strategy.server_lr", "remove it"),
        ("[strategy]\ngroups = 2\n".to_owned(), "strategy.groups", "name = \"feddf\""),
        (
            "[strategy]\ndata = \"public.csv\"\n".to_owned(),
            "strategy.data",
            "name = \"feddf\"",
        ),
    ] {
        refused(&sections, field, problem);
    }
    let contrastive = SMALL.replacen("lr = 0.1", "lr = 0.1\nloss = \"contrastive\"", 1);
    for (sections, field) in [(teacher, "train.distil.teacher"), (FEDDF, "strategy.name")] {
        let error = JobFile::parse(&format!("{contrastive}{sections}")).expect_err(sections);
        assert_eq!(error.field, field, "{error}");
    }
    let asynchronous = SMALL.replacen("[round]", "[round]\nmode = \"async\"", 1);
    let error = JobFile::parse(&format!("{asynchronous}{FEDDF}")).expect_err("groups are of rounds");
    assert_eq!(error.field, "strategy.name", "{error}");
}
