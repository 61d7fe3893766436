//! Every row of the table on a record as CloudTrail writes it, and that the table has an answer to everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Chunk, Limits, LogFileReader};

/// Reads one event as the only one of a log file.
fn chunk(event: &Value) -> Chunk {
    let file = json!({ "Records": [event] }).to_string();
    let mut reader = LogFileReader::new(Limits::default());
    let mut chunks = Vec::new();
    reader.push(file.as_bytes(), &mut chunks).unwrap();
    reader.finish(&mut chunks).unwrap();
    chunks.pop().unwrap()
}

/// An event with the fields that every event has, and `with` over them; `null` takes a field away.
fn event(with: Value) -> Value {
    let mut event = json!({
        "eventVersion": "1.11", "eventTime": "2023-07-10T11:42:36Z", "eventSource": "s3.amazonaws.com",
        "eventName": "GetBucketAcl", "awsRegion": "us-east-1", "sourceIPAddress": "198.51.100.7",
        "userAgent": "aws-cli/2.13", "requestParameters": null, "responseElements": null,
        "eventID": "293ba626-3be5-4a26-ab1b-0f4c54f49959", "eventType": "AwsApiCall",
        "managementEvent": true, "recipientAccountId": "111122223333", "eventCategory": "Management",
    });
    for (key, value) in with.as_object().unwrap() {
        event[key] = value.clone();
    }
    event
}

#[track_caller]
fn check(with: Value, expected: Value) {
    let chunk = chunk(&event(with));
    let actor = classify(&chunk.event(0).unwrap(), &ConsoleFrontEnds::default());
    let mut written = Vec::new();
    actor.write_json(&mut written);
    assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), expected);
}

fn user() -> Value {
    json!({
        "type": "IAMUser", "principalId": "AIDAEXAMPLE", "arn": "arn:aws:iam::111122223333:user/mary",
        "accountId": "111122223333", "accessKeyId": "ASIAEXAMPLE", "userName": "mary",
        "sessionContext": { "sessionIssuer": {}, "webIdFederationData": {},
            "attributes": { "creationDate": "2023-07-10T11:42:31Z", "mfaAuthenticated": "true" } },
    })
}

fn session(role: &str, session: &str, more: Value) -> Value {
    let name = role.rsplit('/').next().unwrap();
    let mut identity = json!({
        "type": "AssumedRole", "principalId": format!("AROAEXAMPLE:{session}"),
        "arn": format!("arn:aws:sts::111122223333:assumed-role/{name}/{session}"),
        "accountId": "111122223333", "accessKeyId": "ASIAEXAMPLE",
        "sessionContext": { "sessionIssuer": { "type": "Role", "principalId": "AROAEXAMPLE",
            "arn": format!("arn:aws:iam::111122223333:role/{role}"), "accountId": "111122223333",
            "userName": name }, "attributes": { "mfaAuthenticated": "false" } },
    });
    for (key, value) in more.as_object().unwrap() {
        identity[key] = value.clone();
    }
    identity
}

fn with(mut identity: Value, more: Value) -> Value {
    for (key, value) in more.as_object().unwrap() {
        identity[key] = value.clone();
    }
    identity
}

#[test]
fn row_0_an_aggregated_event_has_no_actor() {
    let expected = json!({ "class": "none", "kind": "aggregate" });
    check(
        json!({ "eventCategory": "Aggregated", "eventType": "AwsAggregatedEvent", "accountId": "111122223333" }),
        expected.clone(),
    );
    check(json!({ "eventCategory": "Aggregated", "userIdentity": user() }), expected.clone());
    check(json!({ "eventType": "AwsAggregatedEvent", "userIdentity": user() }), expected);
}

#[test]
fn row_1_an_insight_event_has_no_actor() {
    let expected = json!({ "class": "none", "kind": "insight" });
    check(json!({ "eventCategory": "Insight", "eventType": "AwsCloudTrailInsight" }), expected.clone());
    check(json!({ "eventCategory": null, "eventType": "AwsCloudTrailInsight" }), expected.clone());
    check(json!({ "eventCategory": "Insight", "userIdentity": user() }), expected);
}

#[test]
fn row_2_a_service_event_is_the_services_own() {
    check(
        json!({ "eventType": "AwsServiceEvent", "eventSource": "kms.amazonaws.com",
                "userIdentity": { "accountId": "111122223333", "invokedBy": "AWS Internal" } }),
        json!({ "class": "aws_service", "kind": "service_event", "service": "AWS Internal", "account": "111122223333" }),
    );
    check(
        json!({ "eventType": "AwsServiceEvent", "eventSource": "kms.amazonaws.com", "userIdentity": null }),
        json!({ "class": "aws_service", "kind": "service_event", "service": "kms.amazonaws.com" }),
    );
}

#[test]
fn row_3_a_service_principal_is_a_service() {
    check(
        json!({ "sourceIPAddress": "ec2.amazonaws.com", "userAgent": "ec2.amazonaws.com",
                "userIdentity": { "type": "AWSService", "invokedBy": "ec2.amazonaws.com" } }),
        json!({ "class": "aws_service", "kind": "service", "service": "ec2.amazonaws.com" }),
    );
    check(
        json!({ "sourceIPAddress": "delivery.logs.amazonaws.com", "userIdentity": { "type": "AWSService", "invokedBy": null } }),
        json!({ "class": "aws_service", "kind": "service", "service": "delivery.logs.amazonaws.com" }),
    );
}

#[test]
fn row_4_a_console_front_end_is_a_person() {
    let identity = with(user(), json!({ "invokedBy": "signin.amazonaws.com" }));
    let expected = json!({ "class": "principal", "kind": "iam_user", "principal": "arn:aws:iam::111122223333:user/mary",
                           "principal_id": "AIDAEXAMPLE", "account": "111122223333", "console": true });
    check(json!({ "userIdentity": identity }), expected);
    let unnamed = json!({ "type": "Nobody", "invokedBy": "signin.amazonaws.com" });
    check(
        json!({ "userIdentity": unnamed }),
        json!({ "class": "unknown", "kind": "unknown", "console": true }),
    );
}

#[test]
fn the_console_front_ends_can_be_configured() {
    let chunk =
        chunk(&event(json!({ "userIdentity": with(user(), json!({ "invokedBy": "portal.example" })) })));
    let kind = |fronts: &ConsoleFrontEnds| classify(&chunk.event(0).unwrap(), fronts).kind;
    assert_eq!(kind(&ConsoleFrontEnds::default()), ActorKind::OnBehalfOf);
    assert_eq!(kind(&ConsoleFrontEnds(vec!["portal.example".to_owned()])), ActorKind::IamUser);
}

#[test]
fn row_5_a_service_with_its_linked_role_is_a_service() {
    let role = "aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling";
    check(
        json!({ "userIdentity": session(role, "AutoScaling", json!({ "invokedBy": "autoscaling.amazonaws.com" })) }),
        json!({ "class": "aws_service", "kind": "service_linked_role", "service": "autoscaling.amazonaws.com",
                "principal": format!("arn:aws:iam::111122223333:role/{role}"), "principal_id": "AROAEXAMPLE:AutoScaling",
                "account": "111122223333", "role": format!("arn:aws:iam::111122223333:role/{role}"), "session": "AutoScaling" }),
    );
}

#[test]
fn row_6_a_service_with_a_users_identity_acts_on_behalf() {
    check(
        json!({ "userIdentity": with(user(), json!({ "invokedBy": "secretsmanager.amazonaws.com" })) }),
        json!({ "class": "aws_service", "kind": "on_behalf_of", "service": "secretsmanager.amazonaws.com",
                "principal": "arn:aws:iam::111122223333:user/mary", "principal_id": "AIDAEXAMPLE",
                "account": "111122223333", "on_behalf_of": true }),
    );
}

#[test]
fn row_6_a_service_with_a_role_acts_on_behalf() {
    check(
        json!({ "userIdentity": session("ci/deploy", "AWSCloudFormation", json!({ "invokedBy": "cloudformation.amazonaws.com" })) }),
        json!({ "class": "aws_service", "kind": "on_behalf_of", "service": "cloudformation.amazonaws.com",
                "principal": "arn:aws:sts::111122223333:assumed-role/deploy/AWSCloudFormation",
                "principal_id": "AROAEXAMPLE:AWSCloudFormation", "account": "111122223333",
                "role": "arn:aws:iam::111122223333:role/ci/deploy", "session": "AWSCloudFormation", "on_behalf_of": true }),
    );
}

#[test]
fn row_6_a_console_session_may_stand_behind_a_service() {
    let role = "aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Admin_0123456789abcdef";
    let identity = session(role, "mary@example.com", json!({ "invokedBy": "rds.amazonaws.com" }));
    let chunk = chunk(&event(json!({ "userIdentity": identity, "sessionCredentialFromConsole": "true" })));
    let actor = classify(&chunk.event(0).unwrap(), &ConsoleFrontEnds::default());
    assert_eq!((actor.kind, actor.on_behalf_of, actor.console), (ActorKind::OnBehalfOf, true, true));
}

#[test]
fn row_7_a_linked_role_needs_no_invoking_service() {
    let role = "aws-service-role/sso.amazonaws.com/AWSServiceRoleForSSO";
    check(
        json!({ "userIdentity": session(role, "SSO", json!({})) }),
        json!({ "class": "aws_service", "kind": "service_linked_role", "service": "sso.amazonaws.com",
                "principal": format!("arn:aws:iam::111122223333:role/{role}"), "principal_id": "AROAEXAMPLE:SSO",
                "account": "111122223333", "role": format!("arn:aws:iam::111122223333:role/{role}"), "session": "SSO" }),
    );
}

#[test]
fn row_8_a_product_provider_is_a_delegate() {
    let identity = session("partner", "s", json!({ "invokedByDelegate": { "accountId": "444455556666" } }));
    check(
        json!({ "userIdentity": identity }),
        json!({ "class": "principal", "kind": "delegate", "principal": "arn:aws:sts::111122223333:assumed-role/partner/s",
                "principal_id": "AROAEXAMPLE:s", "account": "111122223333",
                "role": "arn:aws:iam::111122223333:role/partner", "session": "s" }),
    );
}

#[test]
fn row_9_every_type_of_user_has_its_kind() {
    for (identity_type, kind) in [
        ("Root", "root"),
        ("IAMUser", "iam_user"),
        ("IdentityCenterUser", "identity_center_user"),
        ("FederatedUser", "federated_user"),
        ("SAMLUser", "saml_user"),
        ("WebIdentityUser", "web_identity_user"),
        ("Directory", "directory_user"),
    ] {
        check(
            json!({ "userIdentity": { "type": identity_type, "principalId": "id", "accountId": "111122223333", "accessKeyId": "" } }),
            json!({ "class": "principal", "kind": kind, "principal_id": "id", "account": "111122223333" }),
        );
    }
}

#[test]
fn row_9_root_and_identity_center_users_are_named() {
    check(
        json!({ "userIdentity": { "type": "Root", "principalId": "111122223333",
                "arn": "arn:aws:iam::111122223333:root", "accountId": "111122223333" } }),
        json!({ "class": "principal", "kind": "root", "principal": "arn:aws:iam::111122223333:root",
                "principal_id": "111122223333", "account": "111122223333" }),
    );
    check(
        json!({ "userIdentity": { "type": "IdentityCenterUser", "accountId": "111122223333",
                "onBehalfOf": { "userId": "544894e8-80c1", "identityStoreArn": "arn:aws:identitystore::111122223333:identitystore/d-1" },
                "credentialId": "90e292de" } }),
        json!({ "class": "principal", "kind": "identity_center_user", "account": "111122223333",
                "identity_center_user": "544894e8-80c1" }),
    );
}

#[test]
fn a_federated_users_issuer_is_no_role() {
    let identity = json!({ "type": "FederatedUser", "principalId": "111122223333:bob",
        "arn": "arn:aws:sts::111122223333:federated-user/bob", "accountId": "111122223333",
        "sessionContext": { "sessionIssuer": { "type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/mary" } } });
    check(
        json!({ "userIdentity": identity }),
        json!({ "class": "principal", "kind": "federated_user", "principal": "arn:aws:sts::111122223333:federated-user/bob",
                "principal_id": "111122223333:bob", "account": "111122223333" }),
    );
}

#[test]
fn row_10_a_permission_set_is_an_sso_session() {
    let role = "aws-reserved/sso.amazonaws.com/eu-west-1/AWSReservedSSO_Admin_0123456789abcdef";
    let expected = json!({ "class": "principal", "kind": "sso_session",
        "principal": "arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Admin_0123456789abcdef/mary@example.com",
        "principal_id": "AROAEXAMPLE:mary@example.com", "account": "111122223333",
        "role": format!("arn:aws:iam::111122223333:role/{role}"), "session": "mary@example.com" });
    check(json!({ "userIdentity": session(role, "mary@example.com", json!({})) }), expected.clone());
    let mut bare = expected;
    bare.as_object_mut().unwrap().remove("role");
    check(
        json!({ "userIdentity": session(role, "mary@example.com", json!({ "sessionContext": null })) }),
        bare,
    );
}

#[test]
fn row_11_a_program_with_a_role_is_a_workload() {
    let scope = json!({ "inScopeOf": { "sourceArn": "arn:aws:lambda:us-east-1:111122223333:function:f", "issuerType": "AWS::Lambda::Function" } });
    for identity in [
        session("app", "f", scope),
        with(session("app", "x", json!({})), json!({ "sessionContext": { "ec2RoleDelivery": "2.0" } })),
        session("app", "i-0123456789abcdef0", json!({})),
        session("app", "i-0123abcd", json!({})),
    ] {
        let chunk = chunk(&event(json!({ "userIdentity": identity })));
        let actor = classify(&chunk.event(0).unwrap(), &ConsoleFrontEnds::default());
        assert_eq!((actor.class, actor.kind), (ActorClass::Principal, ActorKind::Workload), "{identity}");
    }
}

#[test]
fn row_12_any_other_session_is_a_role_session() {
    for identity in [
        session("app", "mary", json!({})),
        session("app", "i-am-mary", json!({})),
        session("app", "i-0123456789ABCDEF0", json!({})),
        session("app", "AWSReservedSSO_x", json!({})),
        session("app", "mary", json!({ "type": "Role" })),
        session("AWSReservedSSO", "s", json!({})),
    ] {
        let chunk = chunk(&event(json!({ "userIdentity": identity })));
        let actor = classify(&chunk.event(0).unwrap(), &ConsoleFrontEnds::default());
        assert_eq!(actor.kind, ActorKind::RoleSession, "{identity}");
        assert!(actor.session.is_some() && actor.role.is_some());
    }
}

#[test]
fn row_13_a_caller_without_credentials_is_anonymous() {
    let expected = json!({ "class": "principal", "kind": "anonymous" });
    check(
        json!({ "userIdentity": { "type": "AWSAccount", "principalId": "", "accountId": "ANONYMOUS_PRINCIPAL" } }),
        expected.clone(),
    );
    check(
        json!({ "userIdentity": { "type": "AWSAccount", "principalId": "ANONYMOUS_PRINCIPAL" } }),
        expected,
    );
}

#[test]
fn row_14_another_account_is_cross_account() {
    check(
        json!({ "userIdentity": { "type": "AWSAccount", "principalId": "AROAEXAMPLE:s", "accountId": "444455556666" } }),
        json!({ "class": "principal", "kind": "cross_account", "principal_id": "AROAEXAMPLE:s", "account": "444455556666" }),
    );
}

#[test]
fn row_15_what_is_not_known_keeps_what_is_there() {
    check(json!({}), json!({ "class": "unknown", "kind": "unknown" }));
    check(json!({ "userIdentity": "odd" }), json!({ "class": "unknown", "kind": "unknown" }));
    check(
        json!({ "userIdentity": { "type": "Unknown", "principalId": "p", "arn": "arn:aws:iam::111122223333:x/y", "accountId": "111122223333" } }),
        json!({ "class": "unknown", "kind": "unknown", "principal": "arn:aws:iam::111122223333:x/y", "principal_id": "p", "account": "111122223333" }),
    );
    check(json!({ "userIdentity": { "type": "iamuser" } }), json!({ "class": "unknown", "kind": "unknown" }));
}

#[test]
fn what_a_caller_can_choose_never_makes_a_service() {
    // As consoles write it: the agent says "AWS Internal", yet a person did it.
    let expected = json!({ "class": "principal", "kind": "iam_user", "principal": "arn:aws:iam::111122223333:user/mary",
                           "principal_id": "AIDAEXAMPLE", "account": "111122223333", "console": true });
    check(
        json!({ "userAgent": "AWS Internal", "sourceIPAddress": "AWS Internal", "sessionCredentialFromConsole": "true", "userIdentity": user() }),
        expected,
    );
    for odd in ["", " ", "\t"] {
        let identity = with(user(), json!({ "invokedBy": odd }));
        let chunk = chunk(&event(json!({ "userIdentity": identity })));
        assert_eq!(classify(&chunk.event(0).unwrap(), &ConsoleFrontEnds::default()).kind, ActorKind::IamUser);
    }
}

#[test]
fn a_users_path_cannot_pose_as_a_service_linked_role() {
    let arn = "arn:aws:iam::111122223333:user/x:role/aws-service-role/ec2.amazonaws.com/eve";
    let identity = with(user(), json!({ "arn": arn }));
    let chunk = chunk(&event(json!({ "userIdentity": identity })));
    let actor = classify(&chunk.event(0).unwrap(), &ConsoleFrontEnds::default());
    assert_eq!((actor.kind, actor.principal.as_deref()), (ActorKind::IamUser, Some(arn)));
}

#[test]
fn a_principal_is_always_an_arn() {
    check(
        json!({ "userIdentity": { "type": "IAMUser", "arn": "not-an-arn", "principalId": "p" } }),
        json!({ "class": "principal", "kind": "iam_user", "principal_id": "p" }),
    );
}

#[test]
fn every_kind_and_class_has_a_name_of_its_own() {
    assert_eq!(ActorKind::ALL.iter().map(|kind| kind.as_str()).collect::<HashSet<_>>().len(), 20);
    assert_eq!(ActorClass::ALL.iter().map(|class| class.as_str()).collect::<HashSet<_>>().len(), 4);
    assert_eq!(ActorKind::ALL.iter().map(|kind| kind.class()).collect::<HashSet<_>>().len(), 4);
}

/// One of the values that fields have in the world, or something else.
fn any_of(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop_oneof![
        3 => prop::sample::select(values).prop_map(|text| json!(text)),
        1 => Just(Value::Null),
        1 => prop_oneof![Just(json!(7)), Just(json!(true)), Just(json!({})), Just(json!([1])), "\\PC{0,8}".prop_map(|text| json!(text))],
    ]
}

prop_compose! {
    fn any_event()(
        category in any_of(&["Management", "Data", "Insight", "Aggregated", "NetworkActivity"]),
        kind in any_of(&["AwsApiCall", "AwsServiceEvent", "AwsConsoleSignIn", "AwsCloudTrailInsight", "AwsAggregatedEvent", "AwsVpceEvent"]),
        console in any_of(&["true", "false"]),
        identity_type in any_of(&["Root", "IAMUser", "AssumedRole", "Role", "FederatedUser", "Directory", "AWSAccount", "AWSService", "IdentityCenterUser", "Unknown", "SAMLUser", "WebIdentityUser"]),
        arn in any_of(&["arn:aws:iam::1:user/a", "arn:aws:sts::1:assumed-role/AWSReservedSSO_A/b", "arn:aws:sts::1:assumed-role/r/i-0123abcd", "arn:", "arn:aws:iam::1:role/aws-service-role/s/n"]),
        principal_id in any_of(&["AROA:s", "AIDA", ":", "ANONYMOUS_PRINCIPAL"]),
        invoked_by in any_of(&["signin.amazonaws.com", "AWS Internal", "rds.amazonaws.com", " "]),
        issuer in any_of(&["arn:aws:iam::1:role/r", "arn:aws:iam::1:role/aws-service-role/s.amazonaws.com/n", "arn:aws:iam::1:role/aws-service-role/"]),
        delegate in any_of(&["d"]),
        scope in any_of(&["s"]),
        whole in any_of(&["text"]),
        keep in 0..8u8,
    ) -> Value {
        let identity = json!({ "type": identity_type, "arn": arn, "principalId": principal_id, "invokedBy": invoked_by,
            "sessionContext": { "sessionIssuer": { "arn": issuer } }, "invokedByDelegate": delegate, "inScopeOf": scope });
        event(json!({ "eventCategory": category, "eventType": kind, "sessionCredentialFromConsole": console,
            "userIdentity": if keep == 0 { whole } else { identity } }))
    }
}

proptest! {
    #[test]
    fn every_combination_of_fields_has_an_answer(event in any_event()) {
        let chunk = chunk(&event);
        let actor = classify(&chunk.event(0).unwrap(), &ConsoleFrontEnds::default());
        prop_assert_eq!(actor.class, actor.kind.class());
        prop_assert_eq!(actor.on_behalf_of, actor.kind == ActorKind::OnBehalfOf);
        prop_assert!(actor.principal.as_deref().is_none_or(|arn| arn.starts_with("arn:")));
        if matches!(actor.kind, ActorKind::OnBehalfOf | ActorKind::ServiceEvent | ActorKind::ServiceLinkedRole) {
            prop_assert!(actor.service.is_some(), "{event}");
        }
        if actor.class == ActorClass::Principal {
            prop_assert!(actor.service.is_none());
        }
        let mut written = Vec::new();
        actor.write_json(&mut written);
        prop_assert!(serde_json::from_slice::<Value>(&written).unwrap().is_object());
    }

    #[test]
    fn neither_agent_nor_address_changes_the_class(
        event in any_event(),
        agent in any_of(&["AWS Internal", "ec2.amazonaws.com"]),
        address in any_of(&["AWS Internal", "ec2.amazonaws.com"]),
    ) {
        let class = |event: &Value| {
            let chunk = chunk(event);
            classify(&chunk.event(0).unwrap(), &ConsoleFrontEnds::default()).class
        };
        let before = class(&event);
        let mut after = event;
        after["userAgent"] = agent;
        after["sourceIPAddress"] = address;
        prop_assert_eq!(class(&after), before);
    }
}
