use aimass_crypto::sign::SigningKey;
use aimass_protocol::codec::encode;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::{CohortId, SignatureBytes, Timestamp};
use serde_bytes::ByteBuf;

use super::*;
use crate::fixture::{JOB_FILE, key, owner_entry, signed_job, task_of};

fn tenant() -> TenantId {
    TenantId::default()
}

fn bundle(owner: &SigningKey) -> TrustBundle {
    TrustBundle {
        version: 4,
        issued_at: Timestamp::from_ms(1),
        roots: Vec::new(),
        owners: vec![owner_entry(owner)],
    }
}

#[test]
fn a_job_of_a_trusted_owner_passes() {
    let owner = key(1);
    let job = verify_task(&task_of(&owner, signed_job(JOB_FILE)), &tenant(), &bundle(&owner)).expect("is trusted");
    assert_eq!((job.owner.as_str(), job.file.job.name.as_str()), ("lab", "digits"));
}

#[test]
fn a_job_of_anybody_else_does_not() {
    let owner = key(1);
    let foreign = task_of(&key(2), signed_job(JOB_FILE));
    let error = verify_task(&foreign, &tenant(), &bundle(&owner)).expect_err("unknown owner");
    assert!(matches!(error, TaskError::OwnerUnknown { version: 4, .. }), "{error}");

    let mut of_other_tenant = bundle(&owner);
    of_other_tenant.owners[0].tenant = "other".parse().expect("a tenant");
    let error = verify_task(&task_of(&owner, signed_job(JOB_FILE)), &tenant(), &of_other_tenant).expect_err("another tenant's owner");
    assert!(matches!(error, TaskError::OwnerUnknown { .. }), "{error}");
}

#[test]
fn a_changed_job_does_not_pass() {
    let owner = key(1);
    let good = task_of(&owner, signed_job(JOB_FILE));

    let mut changed = good.clone();
    changed.signed_job = ByteBuf::from(signed_job(&JOB_FILE.replace("0.1", "0.2")));
    assert!(matches!(
        verify_task(&changed, &tenant(), &bundle(&owner)),
        Err(TaskError::Id { .. })
    ));

    changed.job = job_id(&changed.signed_job);
    assert!(matches!(
        verify_task(&changed, &tenant(), &bundle(&owner)),
        Err(TaskError::Signature { .. })
    ));

    let mut other_context = good.clone();
    other_context.signature = SignatureBytes::from_bytes(owner.sign(Context::Descriptor, &good.signed_job));
    assert!(matches!(
        verify_task(&other_context, &tenant(), &bundle(&owner)),
        Err(TaskError::Signature { .. })
    ));
}

#[test]
fn a_job_for_another_tenant_or_with_a_bad_file_does_not_pass() {
    let owner = key(1);
    let mut here = bundle(&owner);
    let elsewhere: TenantId = "other".parse().expect("a tenant");
    here.owners[0].tenant = elsewhere.clone();
    let error = verify_task(&task_of(&owner, signed_job(JOB_FILE)), &elsewhere, &here).expect_err("the job names another tenant");
    assert!(matches!(error, TaskError::Tenant { .. }), "{error}");

    let bad = task_of(&owner, signed_job(&JOB_FILE.replace("lr = 0.1", "lr = -1")));
    assert!(matches!(verify_task(&bad, &tenant(), &bundle(&owner)), Err(TaskError::File(_))));
    let no_job = task_of(&owner, b"\x01".to_vec());
    assert!(matches!(
        verify_task(&no_job, &tenant(), &bundle(&owner)),
        Err(TaskError::Malformed { .. })
    ));
}

fn descriptor() -> Descriptor {
    Descriptor {
        version: 1,
        tenant: tenant(),
        job: JobId::from_bytes([1; 16]),
        round: 1,
        cohort: CohortId::from_bytes([9; 16]),
        bases: vec![Digest::from_bytes([2; 32])],
        layout_digest: Digest::from_bytes([3; 32]),
        codec: JobFile::parse(JOB_FILE).expect("a good job file").update,
        mode: AggregationMode::Plain,
        members: 3,
        floor: 2,
        deadline: Timestamp::from_ms(10),
        rotation: None,
        log: None,
        secagg: None,
    }
}

fn check(descriptor: &Descriptor, signer: &SigningKey) -> Result<Descriptor, DescriptorError> {
    let bytes = encode(descriptor).expect("encodes");
    let signature = SignatureBytes::from_bytes(signer.sign(Context::Descriptor, &bytes));
    let signed = SignedDescriptor {
        descriptor: ByteBuf::from(bytes),
        signature,
    };
    verify_descriptor(&signed, &key(3).public(), &tenant(), Digest::from_bytes([3; 32]))
}

#[test]
fn the_descriptor_of_this_server_about_this_work_passes() {
    assert_eq!(check(&descriptor(), &key(3)), Ok(descriptor()));
}

#[test]
fn another_servers_signature_is_refused() {
    assert_eq!(check(&descriptor(), &key(4)), Err(DescriptorError::Signature));
}

#[test]
fn another_tenant_or_layout_is_refused() {
    let tenant = Descriptor {
        tenant: "other".parse().expect("a tenant"),
        ..descriptor()
    };
    assert!(matches!(check(&tenant, &key(3)), Err(DescriptorError::Tenant { .. })));
    let layout = Descriptor {
        layout_digest: Digest::from_bytes([4; 32]),
        ..descriptor()
    };
    assert!(matches!(check(&layout, &key(3)), Err(DescriptorError::Layout { .. })));
}

#[test]
fn what_is_no_descriptor_is_refused() {
    let bytes = b"\xa0".to_vec();
    let signature = SignatureBytes::from_bytes(key(3).sign(Context::Descriptor, &bytes));
    let signed = SignedDescriptor {
        descriptor: ByteBuf::from(bytes),
        signature,
    };
    let result = verify_descriptor(&signed, &key(3).public(), &tenant(), Digest::from_bytes([3; 32]));
    assert!(matches!(result, Err(DescriptorError::Malformed { .. })));
}
