//! Who acts: one row for each kind of identity that CloudTrail writes, with the share it has of all events.
//! <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-user-identity.html>

/// How a caller shows in address, agent and TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Caller {
    /// A person at a browser or a command line.
    Person,
    /// A program with an SDK.
    Machine,
    /// An AWS service: its name stands for the address, and there is no TLS section.
    Service,
    /// An AWS service that does not say which.
    Internal,
}

/// Which calls the actor makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// Any.
    Any,
    /// Any, and now and then a sign-in to the console.
    AnyAndSignIn,
    /// Taking on a role by SAML.
    Saml,
    /// Taking on a role by a web identity.
    WebIdentity,
    /// Reading objects without credentials, or from another account.
    Foreign,
    /// What services report of themselves.
    ServiceEvents,
}

/// One kind of identity.
pub(super) struct Actor {
    /// The kind, in the words of the classification.
    pub(super) kind: &'static str,
    /// Its share, in thousandths.
    pub(super) weight: usize,
    pub(super) caller: Caller,
    pub(super) calls: Calls,
    /// The value of `userIdentity`.
    pub(super) identity: &'static str,
}

const fn actor(
    kind: &'static str,
    weight: usize,
    caller: Caller,
    calls: Calls,
    identity: &'static str,
) -> Actor {
    Actor { kind, weight, caller, calls, identity }
}

/// Begins the identity of an assumed role; the session's name and what follows the issuer differ.
macro_rules! assumed {
    ($session:literal, $role:literal, $path:literal, $attributes:literal, $after:literal) => {
        concat!(
            r#"{"type":"AssumedRole","principalId":"~rid~:"#,
            $session,
            r#"","arn":"arn:aws:sts::~acct~:assumed-role/"#,
            $role,
            "/",
            $session,
            r#"","accountId":"~acct~","accessKeyId":"ASIA~k:60~","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"~rid~","arn":"arn:aws:iam::~acct~:role/"#,
            $path,
            $role,
            r#"","accountId":"~acct~","userName":""#,
            $role,
            r#""},"#,
            r#""attributes":{"creationDate":"~since~","mfaAuthenticated":"false"}"#,
            $attributes,
            "}",
            $after,
            "}"
        )
    };
}

/// All rows; the weights add up to 1,000.
pub(super) const ACTORS: &[Actor] = &[
    actor("role_session", 240, Caller::Machine, Calls::Any, assumed!("~sess~", "~role~", "~path~", "", "")),
    actor(
        "workload",
        130,
        Caller::Machine,
        Calls::Any,
        assumed!("~inst~", "~role~", "~path~", r#","ec2RoleDelivery":"2.0""#, ""),
    ),
    actor(
        "workload",
        60,
        Caller::Machine,
        Calls::Any,
        assumed!(
            "order-processor",
            "~role~",
            "~path~",
            "",
            r#","inScopeOf":{"issuerType":"AWS::Lambda::Function","credentialsIssuedTo":"arn:aws:lambda:~region~:~acct~:function:order-processor"}"#
        ),
    ),
    actor(
        "sso_session",
        90,
        Caller::Person,
        Calls::Any,
        assumed!(
            "~user~@example.com",
            "AWSReservedSSO_PowerUser_0a1b2c3d4e5f6071",
            "aws-reserved/sso.amazonaws.com/~region~/",
            "",
            ""
        ),
    ),
    actor(
        "iam_user",
        280,
        Caller::Person,
        Calls::AnyAndSignIn,
        r#"{"type":"IAMUser","principalId":"~uid~","arn":"arn:aws:iam::~acct~:user/~user~","accountId":"~acct~","accessKeyId":"AKIA~k:8~","userName":"~user~"}"#,
    ),
    actor(
        "iam_user",
        3,
        Caller::Person,
        Calls::Any,
        r#"{"type":"IAMUser","principalId":"~uid~","arn":"arn:aws:iam::~acct~:user/~user~","accountId":"~acct~","accessKeyId":"ASIA~k:8~","userName":"~user~","sessionContext":{"attributes":{"mfaAuthenticated":"true","creationDate":"~since~"}},"invokedBy":"signin.amazonaws.com"}"#,
    ),
    actor(
        "root",
        6,
        Caller::Person,
        Calls::AnyAndSignIn,
        r#"{"type":"Root","principalId":"~acct~","arn":"arn:aws:iam::~acct~:root","accountId":"~acct~","accessKeyId":"","sessionContext":{"sessionIssuer":{},"webIdFederationData":{},"attributes":{"creationDate":"~since~","mfaAuthenticated":"true"}}}"#,
    ),
    actor(
        "identity_center_user",
        8,
        Caller::Person,
        Calls::Any,
        r#"{"type":"IdentityCenterUser","accountId":"~acct~","onBehalfOf":{"userId":"d448d4b8-90a1-70e6-~h:4~-3b9c2a1f0e5d","identityStoreArn":"arn:aws:identitystore::~acct~:identitystore/d-9067642ac7"},"credentialId":"~h:64~"}"#,
    ),
    actor(
        "federated_user",
        8,
        Caller::Person,
        Calls::Any,
        r#"{"type":"FederatedUser","principalId":"~acct~:~user~","arn":"arn:aws:sts::~acct~:federated-user/~user~","accountId":"~acct~","accessKeyId":"ASIA~k:8~","sessionContext":{"sessionIssuer":{"type":"IAMUser","principalId":"~uid~","arn":"arn:aws:iam::~acct~:user/broker","accountId":"~acct~","userName":"broker"},"webIdFederationData":{},"attributes":{"creationDate":"~since~","mfaAuthenticated":"false"}}}"#,
    ),
    actor(
        "saml_user",
        6,
        Caller::Person,
        Calls::Saml,
        r#"{"type":"SAMLUser","principalId":"~h:27~=:~user~@example.com","userName":"~user~@example.com","identityProvider":"~h:27~="}"#,
    ),
    actor(
        "web_identity_user",
        25,
        Caller::Machine,
        Calls::WebIdentity,
        r#"{"type":"WebIdentityUser","principalId":"arn:aws:iam::~acct~:oidc-provider/token.actions.githubusercontent.com:sts.amazonaws.com:repo:example/shop:ref:refs/heads/main","userName":"repo:example/shop:ref:refs/heads/main","identityProvider":"arn:aws:iam::~acct~:oidc-provider/token.actions.githubusercontent.com"}"#,
    ),
    actor(
        "directory_user",
        3,
        Caller::Person,
        Calls::Any,
        r#"{"type":"Directory","principalId":"d-9067642ac7:~user~","accountId":"~acct~","userName":"~user~"}"#,
    ),
    actor(
        "cross_account",
        14,
        Caller::Machine,
        Calls::Foreign,
        r#"{"type":"AWSAccount","principalId":"AIDA~k:9~~h:1~","accountId":"~other~"}"#,
    ),
    actor(
        "anonymous",
        4,
        Caller::Machine,
        Calls::Foreign,
        r#"{"type":"AWSAccount","principalId":"","accountId":"ANONYMOUS_PRINCIPAL"}"#,
    ),
    actor(
        "unknown",
        3,
        Caller::Machine,
        Calls::Any,
        r#"{"type":"Unknown","principalId":"~h:21~","accountId":"~acct~","userName":"HIDDEN_DUE_TO_SECURITY_REASONS"}"#,
    ),
    actor(
        "delegate",
        3,
        Caller::Machine,
        Calls::Any,
        assumed!("~sess~", "~role~", "~path~", "", r#","invokedByDelegate":{"accountId":"~other~"}"#),
    ),
    actor("service", 45, Caller::Service, Calls::Any, r#"{"type":"AWSService","invokedBy":"~svc~"}"#),
    actor(
        "service_event",
        15,
        Caller::Service,
        Calls::ServiceEvents,
        r#"{"accountId":"~acct~","invokedBy":"~svc~"}"#,
    ),
    actor(
        "service_linked_role",
        10,
        Caller::Service,
        Calls::Any,
        assumed!("~svc~", "~slr~", "aws-service-role/~svc~/", "", r#","invokedBy":"~svc~""#),
    ),
    actor(
        "service_linked_role",
        2,
        Caller::Machine,
        Calls::Any,
        assumed!("~svc~", "~slr~", "aws-service-role/~svc~/", "", ""),
    ),
    actor(
        "on_behalf_of",
        35,
        Caller::Service,
        Calls::Any,
        assumed!("~sess~", "~role~", "~path~", "", r#","invokedBy":"~svc~""#),
    ),
    actor(
        "on_behalf_of",
        10,
        Caller::Internal,
        Calls::Any,
        r#"{"type":"IAMUser","principalId":"~uid~","arn":"arn:aws:iam::~acct~:user/~user~","accountId":"~acct~","accessKeyId":"ASIA~k:8~","userName":"~user~","sessionContext":{"sessionIssuer":{},"webIdFederationData":{},"attributes":{"creationDate":"~since~","mfaAuthenticated":"false"}},"invokedBy":"AWS Internal"}"#,
    ),
];

/// Roles that are not a service's own, with their paths.
pub(super) const ROLES: &[(&str, &str)] = &[
    ("shop-api", "app/"),
    ("eks-node-group", ""),
    ("OrganizationAccountAccessRole", ""),
    ("order-processor-execution", "service-role/"),
    ("ecsTaskExecutionRole", ""),
    ("ci-deploy", "ci/"),
    ("monitoring-integration", ""),
    ("data-lake-etl", "data/"),
    ("terraform-apply", "ci/"),
    ("break-glass", "security/"),
];

/// Services with the name of their service-linked role.
pub(super) const SERVICES: &[(&str, &str)] = &[
    ("autoscaling.amazonaws.com", "AWSServiceRoleForAutoScaling"),
    ("config.amazonaws.com", "AWSServiceRoleForConfig"),
    ("ecs.amazonaws.com", "AWSServiceRoleForECS"),
    ("rds.amazonaws.com", "AWSServiceRoleForRDS"),
    ("eks.amazonaws.com", "AWSServiceRoleForAmazonEKS"),
    ("elasticloadbalancing.amazonaws.com", "AWSServiceRoleForElasticLoadBalancing"),
    ("secretsmanager.amazonaws.com", "AWSServiceRoleForSecretsManager"),
    ("inspector2.amazonaws.com", "AWSServiceRoleForAmazonInspector2"),
    ("guardduty.amazonaws.com", "AWSServiceRoleForAmazonGuardDuty"),
    ("trustedadvisor.amazonaws.com", "AWSServiceRoleForTrustedAdvisor"),
];

/// People and robots with keys of their own.
pub(super) const USERS: &[&str] =
    &["alice", "bob", "carol.o-neil", "terraform", "jenkins", "deploy-bot", "dave"];

/// Names that sessions are given.
pub(super) const SESSIONS: &[&str] = &[
    "botocore-session-1714561200",
    "aws-sdk-js-session-1714560000",
    "GitHubActions",
    "shop-api",
    "1714563600123456789",
    "nightly-etl",
];

/// What programs say they are.
pub(super) const MACHINE_AGENTS: &[&str] = &[
    "aws-sdk-go-v2/1.26.1 os/linux lang/go#1.22.2 api/ec2#1.156.0",
    "Boto3/1.34.90 md/Botocore#1.34.90 ua/2.0 os/linux#5.10.214 lang/python#3.12.3 cfg/retry-mode#standard",
    "aws-sdk-java/2.25.40 Linux/6.1.84 Java/21.0.3 vendor/Eclipse_Adoptium io/sync http/Apache",
    "APN/1.0 HashiCorp/1.0 Terraform/1.8.2 (+https://www.terraform.io) terraform-provider-aws/5.47.0 (+https://registry.terraform.io/providers/hashicorp/aws) aws-sdk-go-v2/1.26.1",
    "aws-sdk-rust/1.2.0 os/linux lang/rust/1.77.2",
    "aws-sdk-js/3.563.0 ua/2.0 os/linux#6.1.84 lang/js md/nodejs#20.12.2",
];

/// What people's programs say they are.
pub(super) const PERSON_AGENTS: &[&str] = &[
    "aws-cli/2.15.41 os/macos#23.4.0 md/arch#arm64 lang/python#3.11.8 md/command#ec2.describe-instances",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36",
    "AWS Internal",
    "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0",
];
