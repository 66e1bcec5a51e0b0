//! Jobs that are not taken, and jobs that are.

use aimass_analytics::Report;
use aimass_protocol::codec;
use aimass_protocol::job::{AggregationMode, JobFile, SignedJob};
use aimass_protocol::{Digest, ErrorCode, TenantId};
use serde_json::{Value, json};

use super::deployment::{Deployment, Server, job_file, key, signed_by, small_model};

async fn refused(server: &Server, body: &Value, status: u16, code: &str) -> String {
    let (found, answer) = server.api.ask("POST", "/v1/jobs", body).await;
    assert_eq!((found, answer["code"].as_str()), (status, Some(code)), "{answer}");
    answer["error"].as_str().expect("a text").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_refused_with_what_is_wrong_and_how_to_right_it() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let file = job_file("rounds = 1\nmin = 1");
    let model = server.put(small_model().as_bytes()).await;
    let (bytes, body) = deployment.signed(&file, model, None, 1);

    // Not signed, changed after signing, signed by a stranger.
    let mut unsigned = body.clone();
    unsigned["signature"] = json!("00".repeat(64));
    refused(&server, &unsigned, 403, "forbidden").await;
    let mut changed = body.clone();
    changed["signed_job"] = json!(hex::encode([&bytes[..], b"x"].concat()));
    refused(&server, &changed, 403, "forbidden").await;
    let stranger = key(2000);
    let text = refused(&server, &signed_by(&stranger, &bytes), 403, "forbidden").await;
    assert!(text.contains("aimass owner"), "{text}");

    // For somebody else's tenant.
    let mut job: SignedJob = codec::decode(&bytes).expect("decodes");
    job.tenant = "acme".parse::<TenantId>().expect("a tenant");
    let bytes = codec::encode(&job).expect("encodes");
    refused(&server, &signed_by(&deployment.owner, &bytes), 403, "forbidden").await;

    // Its model or data was not uploaded.
    let missing = Digest::from_bytes([5; 32]);
    let text = refused(&server, &deployment.signed(&file, missing, None, 1).1, 404, "blob_unknown").await;
    assert!(text.contains("upload the model first"), "{text}");
    let evaluated = format!("{file}\n[evaluate]\ndata = \"test.csv\"\n");
    refused(
        &server,
        &deployment.signed(&evaluated, model, Some(missing), 1).1,
        404,
        "blob_unknown",
    )
    .await;

    // What the file says does not parse, is not possible here, or does not fit the model.
    let junk = server.put(b"no model").await;
    let narrow = server.put(b"a,b,label\n1,2,0\n").await;
    let torn = server.put(b"a,b,c,d,label\n1,2,3,4,0\n1,2,x,4,0\n").await;
    let cases = [
        (file.replace("lr = 0.1", "lr = 0.1\nlearning = 1"), model, None, "line 15"),
        (
            file.replace("\"plain\"", "\"secure\""),
            model,
            None,
            "needs round.min of at least 3",
        ),
        (
            file.replace("lr = 0.1", "lr = 0.1\nlora = { rank = 2 }"),
            model,
            None,
            "train.lora: the model has no low-rank adapters",
        ),
        (
            file.replace("lr = 0.1", "lr = 0.1\n[[train.heads]]\n[[train.heads]]\noutput = \"none\""),
            model,
            None,
            "none",
        ),
        (
            file.replace("lr = 0.1", "lr = 0.1\nclass_weights = [1.0]"),
            model,
            None,
            "`class_weights` has 1 numbers for",
        ),
        (file.clone(), junk, None, "model.path"),
        (
            file.replace("[data]", "trainable = [\"!*\"]\n[data]"),
            model,
            None,
            "model.trainable",
        ),
        (evaluated.clone(), model, None, "evaluate.data"),
        (evaluated.clone(), model, Some(narrow), "line"),
        (evaluated, model, Some(torn), ":3:3"),
    ];
    for (file, model, evaluation, part) in cases {
        let text = refused(&server, &deployment.signed(&file, model, evaluation, 1).1, 400, "job_file").await;
        assert!(text.contains(part) && text.contains("line "), "{part}: {text}");
    }

    let (status, answer) = server
        .api
        .ask(
            "POST",
            "/v1/jobs",
            &json!({ "signed_job": "zz", "owner": body["owner"], "signature": body["signature"] }),
        )
        .await;
    assert_eq!((status, answer["code"].as_str()), (400, Some("bad_request")), "{answer}");
    assert_eq!(
        server.api.ok("GET", "/v1/jobs", Value::Null).await["jobs"],
        json!([]),
        "nothing was changed"
    );
    assert!(server.counter("jobs_refused").await >= 16);

    // And now it is right; twice is once.
    let first = server.api.ok("POST", "/v1/jobs", body.clone()).await;
    assert_eq!(server.api.ok("POST", "/v1/jobs", body).await, first);
    assert_eq!(server.counter("jobs_submitted").await, 1);
    let jobs = server.api.ok("GET", "/v1/jobs", Value::Null).await;
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(1));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_who_was_registered_a_moment_ago_is_known() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let newcomer = key(3000);
    let model = server.put(small_model().as_bytes()).await;
    let (bytes, _) = deployment.signed(&job_file("rounds = 1\nmin = 1"), model, None, 1);
    refused(&server, &signed_by(&newcomer, &bytes), 403, ErrorCode::Forbidden.name()).await;
    deployment.register(&newcomer).await;
    server.api.ok("POST", "/v1/jobs", signed_by(&newcomer, &bytes)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_whose_updates_could_fill_the_disk_are_refused() {
    let deployment = Deployment::start().await;
    let server = deployment
        .server_with(aimass_server::aggregator::Config {
            max_journal_bytes: 6_000,
            ..deployment.config()
        })
        .await;
    let model = server.put(small_model().as_bytes()).await;
    let submit = |nonce, max: u32| {
        deployment
            .signed(&job_file(&format!("rounds = 1\nmin = 1\nmax = {max}")), model, None, nonce)
            .1
    };
    let text = refused(&server, &submit(1, 1000), 409, "conflict").await;
    assert!(text.contains("lower round.max"), "{text}");
    let first = server.api.ok("POST", "/v1/jobs", submit(2, 60)).await;
    refused(&server, &submit(3, 60), 409, "conflict").await;
    // A job that is over needs no room.
    let path = format!("/v1/jobs/{}/stop", first["job"].as_str().expect("an id"));
    server.api.ok("POST", &path, Value::Null).await;
    server.api.ok("POST", "/v1/jobs", submit(3, 60)).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_analytics_job_starts_from_the_report_of_nobody_and_from_nothing_else() {
    const FILE: &str = "[job]\nname = \"a\"\nkind = \"analytics\"\npurpose = \"p\"\n[data]\ncontract = \"c\"\n\
        [[analyze.columns]]\nnames = [\"age\"]\nlow = 0\nhigh = 120\n[round]\nmin = 3\n";
    let analyze = |text: &str| JobFile::parse(text).expect(text).analyze.expect("an analytics job");
    let empty = |text: &str, mode| Report::empty(&analyze(text), mode).to_bytes();
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let good = server.put(&empty(FILE, AggregationMode::Secure)).await;

    let counted = Report {
        rows: 5,
        ..Report::empty(&analyze(FILE), AggregationMode::Secure)
    };
    for other in [
        counted.to_bytes(),
        empty(FILE, AggregationMode::Plain),
        empty(&FILE.replace("120", "121"), AggregationMode::Secure),
        small_model().as_bytes().to_vec(),
    ] {
        let digest = server.put(&other).await;
        let text = refused(&server, &deployment.signed(FILE, digest, None, 1).1, 400, "job_file").await;
        assert!(text.contains("is not the empty report"), "{text}");
    }
    let text = refused(&server, &deployment.signed(FILE, good, Some(good), 1).1, 400, "job_file").await;
    assert!(text.contains("no model to evaluate"), "{text}");
    let text = refused(
        &server,
        &deployment.signed(&job_file("rounds = 1\nmin = 1"), good, None, 1).1,
        400,
        "job_file",
    )
    .await;
    assert!(text.contains("model.path"), "{text}");
    let wide = FILE
        .replace("[[analyze", "[analyze]\nmax_rows = 4000000\n[[analyze")
        .replace("min = 3", "min = 3\nmax = 1000");
    let text = refused(&server, &deployment.signed(&wide, good, None, 1).1, 400, "job_file").await;
    assert!(text.contains("63 bits"), "{text}");

    let job = server.api.ok("POST", "/v1/jobs", deployment.signed(FILE, good, None, 1).1).await;
    let view = server
        .api
        .ok("GET", &format!("/v1/jobs/{}", job["job"].as_str().expect("an id")), Value::Null)
        .await;
    assert_eq!(
        (view["kind"].as_str(), view["rounds"].as_u64()),
        (Some("analytics"), Some(1)),
        "{view}"
    );
    server.stop().await;
}
