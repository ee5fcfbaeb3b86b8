//! What a file's mistakes look like to the operator: (why, toml, the lines that are printed).

use pgherd_config::parse;

/// No users needed. Put behind the text under test, so that its lines count from 1.
const TRUST: &str = "\n[auth]\nmethod = \"trust\"\n";

/// One database with one shard.
const SHOP: &str = "\n[[databases.shop.shards]]\nname = \"s0\"\nprimary = \"postgres://h/shop\"\n";

/// A second shard, and the control that two shards need.
const SHOP_OF_TWO: &str = r#"
[[databases.shop.shards]]
name = "s0"
primary = "postgres://h/shop"
[[databases.shop.shards]]
name = "s1"
primary = "postgres://i/shop"
[databases.shop.control]
user = "pgherd"
"#;

type Case<'a> = (&'a str, &'a str, &'a [&'a str]);

/// Each text, followed by `rest`, gives exactly these lines.
fn assert_lines(rest: &str, cases: &[Case<'_>]) {
    for (why, toml, expected) in cases {
        let found: Vec<String> = match parse(&format!("{toml}{rest}"), "f") {
            Ok(_) => Vec::new(),
            Err(problems) => problems.lines().map(|line| line.replacen("f:", "", 1)).collect(),
        };
        assert_eq!(found, *expected, "{why}: {toml}");
    }
}

#[test]
fn every_setting_is_held_to_its_type_and_bounds() {
    assert_lines(
        &format!("{TRUST}{SHOP}"),
        &[
            ("nothing to say", "", &[]),
            (
                "a string is no array",
                "[server]\nlisten = \"127.0.0.1:6432\"",
                &["2:10: server.listen must be an array, but is a string"],
            ),
            (
                "each listener is looked at",
                "[server]\nlisten = [\"h:1\", \"h\", 3, \"h:1\"]",
                &[
                    "2:18: server.listen has no port, as in \"h:6432\"",
                    "2:23: server.listen must be a string, but is an integer",
                ],
            ),
            (
                "nobody could connect",
                "[server]\nlisten = []",
                &["2:10: server.listen is empty: nobody could connect"],
            ),
            (
                "the same twice",
                "[server]\nlisten = [\"h:1\", \"h:1\"]",
                &["2:18: server.listen has this address again; it is already in line 2"],
            ),
            (
                "more than the bound",
                "[server]\nworkers = 1025",
                &["2:11: server.workers must be from 0 to 1024, but is 1025"],
            ),
            (
                "a negative number",
                "[server]\nmax_clients = -1",
                &["2:15: server.max_clients must be from 1 to 1000000, but is -1"],
            ),
            (
                "nobody at all",
                "[server]\nmax_clients = 0",
                &["2:15: server.max_clients must be from 1 to 1000000, but is 0"],
            ),
            (
                "not even a u64",
                "[pool]\nsize = 99999999999999999999999",
                &["2:8: pool.size must be from 1 to 262143, but is 99999999999999999999999"],
            ),
            ("a fraction", "[pool]\nsize = 1.5", &["2:8: pool.size must be an integer, but is a fraction"]),
            (
                "a number without a unit",
                "[server]\nlogin_timeout = 60",
                &["2:17: server.login_timeout needs a unit, as in \"60s\" (units are ms, s, m, h, d)"],
            ),
            (
                "a text without a unit",
                "[pool]\ncheckout_timeout = \"5\"",
                &["2:20: pool.checkout_timeout needs a unit, as in \"5s\" (units are ms, s, m, h, d)"],
            ),
            ("never, in words of ours", "[pool]\nidle_timeout = \"0s\"", &[]),
            (
                "never waiting is not possible",
                "[pool]\nconnect_timeout = \"0s\"",
                &["2:19: pool.connect_timeout must be from \"1ms\" to \"1h\", but is \"0s\""],
            ),
            (
                "a word instead of a boolean",
                "[pool]\ncache_unnamed = \"yes\"",
                &["2:17: pool.cache_unnamed must be true or false, but is a string"],
            ),
            ("a section that is none", "pool = 3", &["1:8: pool must be a table, but is an integer"]),
            (
                "one bracket too few",
                "[users]\nname = \"app\"",
                &["1:1: users may have several entries: write [[users]]"],
            ),
            (
                "a database's pool is a pool",
                "[databases.shop.pool]\nsize = 0",
                &["2:8: databases.shop.pool.size must be from 1 to 262143, but is 0"],
            ),
            (
                "an override is checked too",
                "[[users]]\nname = \"a\"\nsize = 0",
                &["3:8: users.size must be from 1 to 262143, but is 0"],
            ),
            (
                "a column counts characters",
                "[pool]\n\"größe\" = 1 # ä\nsize = 0",
                &["2:1: unknown key \"größe\"", "3:8: pool.size must be from 1 to 262143, but is 0"],
            ),
        ],
    );
}

#[test]
fn a_key_nobody_knows_is_refused_with_the_one_that_was_meant() {
    assert_lines(
        &format!("{TRUST}{SHOP}"),
        &[
            ("a section", "[sever]\nlisten = []", &["1:2: unknown key \"sever\"; did you mean \"server\"?"]),
            ("a key", "[pool]\nsise = 3", &["2:1: unknown key \"sise\"; did you mean \"size\"?"]),
            ("nothing like it", "[pool]\ncolour = 3", &["2:1: unknown key \"colour\""]),
            (
                "in a database",
                "[databases.shop]\ncatalogue = \"s0\"",
                &["2:1: unknown key \"catalogue\"; did you mean \"catalog\"?"],
            ),
            (
                "in an inline table",
                "[databases.shop]\ncontrol = { user = \"p\", pasword = \"x\" }",
                &["2:25: unknown key \"pasword\"; did you mean \"password\"?"],
            ),
            (
                "known, but not of a user",
                "[[users]]\nname = \"a\"\nidle_timeout = \"1s\"",
                &["3:1: users.idle_timeout cannot be set here, only in [pool] and [databases.NAME.pool]"],
            ),
            ("a name with a line end stays on its line", "\"a\\nb\" = 1", &["1:1: unknown key \"a\\nb\""]),
        ],
    );
}

#[test]
fn what_is_designed_but_not_built_is_refused_by_name() {
    assert_lines(
        &format!("{SHOP}{TRUST}"),
        &[
            ("off is what there is", "[server]\nhttp = \"\"", &[]),
            ("the mode there is", "[pool]\nmode = \"transaction\"", &[]),
            (
                "a mode nobody knows",
                "[pool]\nmode = \"fast\"",
                &["2:8: pool.mode must be \"transaction\", \"session\" or \"statement\", but is \"fast\""],
            ),
            ("gather of the whole file", "[gather]\nrows_max = 3", &["1:2: gather is not supported yet"]),
            (
                "limits of a gather",
                "[databases.shop.gather]\nrows_max = 0\nbytes_max = 5",
                &[
                    "2:12: databases.shop.gather.rows_max must be from 1 to 1000000000, but is 0",
                    "3:13: databases.shop.gather.bytes_max needs a unit, as in \"5B\" (units are B, KiB, MiB, GiB, TiB)",
                ],
            ),
            (
                "a size beyond its bounds",
                "[databases.shop.gather]\nbytes_max = \"2TiB\"",
                &["2:13: databases.shop.gather.bytes_max must be from \"1B\" to \"1TiB\", but is \"2TiB\""],
            ),
            (
                "cross-shard switches, wherever they stand",
                "cross_shard_commit = \"2pc\"\ncross_shard_reads = \"fast\"\n[databases.shop]\ncross_shard_reads = \"slow\"",
                &[
                    "1:1: cross_shard_commit is not supported yet",
                    "2:1: cross_shard_reads is not supported yet",
                    "4:21: databases.shop.cross_shard_reads must be \"atomic\" or \"fast\", but is \"slow\"",
                ],
            ),
            ("failover", "[failover]\nwait = \"5s\"", &["1:2: failover is not supported yet"]),
            ("replica", "[replica]\nlag_max = \"5s\"", &["1:2: replica is not supported yet"]),
            (
                "indexes",
                "[databases.shop.indexes]\na = 1",
                &["1:17: databases.shop.indexes is not supported yet"],
            ),
        ],
    );
    assert_lines(
        SHOP,
        &[(
            "a method nobody knows",
            "[auth]\nmethod = \"ldap\"",
            &[
                "2:10: auth.method must be \"trust\", \"scram-sha-256\", \"md5\", \"password\", \"peer\", \"cert\" or \"hba\", but is \"ldap\"",
            ],
        )],
    );
    assert_lines(
        &format!("{TRUST}{SHOP_OF_TWO}"),
        &[(
            "a table of it is not wrong as well",
            "[databases.shop]\ntables.a = { distribution = \"d\", key = \"k\" }\ndistributions.d = { by = \"guess\", type = \"text\" }",
            &[
                "3:26: databases.shop.distributions.d.by must be \"hash\", \"range\", \"list\" or \"directory\", but is \"guess\"",
            ],
        )],
    );
    assert_lines(
        TRUST,
        &[(
            "replicas",
            "[[databases.a.shards]]\nname = \"s\"\nprimary = \"postgres://h/a\"\nreplicas = [\"postgres://i/a\"]",
            &["4:12: databases.a.shards.replicas is not supported yet"],
        )],
    );
}

#[test]
fn users_have_names_and_passwords() {
    assert_lines(
        SHOP,
        &[
            ("said to be none", "users = []", &[]),
            (
                "no section at all: scram is the default",
                "",
                &["1:1: no [[users]]: with auth.method = \"scram-sha-256\" nobody could log in"],
            ),
            (
                "without password",
                "[[users]]\nname = \"a\"",
                &["1:1: user \"a\" has no password, which auth.method = \"scram-sha-256\" needs"],
            ),
            (
                "a bad password is not a missing one",
                "[[users]]\nname = \"a\"\npassword = 3",
                &["3:12: users.password must be a string, but is an integer"],
            ),
            (
                "an empty password",
                "[[users]]\nname = \"a\"\npassword = \"\"",
                &["3:12: users.password is empty"],
            ),
            ("no name", "[[users]]\npassword = \"x\"", &["1:1: users.name is missing"]),
            (
                "the same name twice",
                "[[users]]\nname = \"a\"\npassword = \"x\"\n[[users]]\nname = \"a\"\npassword = \"y\"",
                &["5:8: user \"a\" again; it is already in line 2"],
            ),
            (
                "no variable",
                "[[users]]\nname = \"a\"\npassword = \"env:\"",
                &["3:12: users.password must name an environment variable after \"env:\""],
            ),
            (
                "a relative file",
                "[[users]]\nname = \"a\"\npassword = \"file:p\"",
                &["3:12: users.password must have an absolute path after \"file:\""],
            ),
            (
                "half a verifier, which is not repeated",
                "[[users]]\nname = \"a\"\npassword = \"SCRAM-SHA-256$4096:secret\"",
                &[
                    "3:12: users.password begins like a SCRAM verifier, but is not SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>",
                ],
            ),
        ],
    );
    assert_lines(
        &format!("{TRUST}{SHOP}"),
        &[("trust needs no password", "[[users]]\nname = \"a\"", &[]), ("trust needs no users", "", &[])],
    );
}

#[test]
fn a_way_in_has_what_it_needs() {
    assert_lines(
        SHOP,
        &[
            (
                "no certificate",
                "[auth]\nmethod = \"trust\"\n[server.tls]\nmode = \"require\"",
                &["3:1: server.tls.certificate is missing", "3:1: server.tls.private_key is missing"],
            ),
            (
                "turned off, it needs none",
                "[auth]\nmethod = \"trust\"\n[server.tls]\nmode = \"disable\"",
                &[],
            ),
            (
                "nobody to verify by, and a relative path",
                "[auth]\nmethod = \"trust\"\n[server.tls]\nmode = \"verify-ca\"\ncertificate = \"c\"\nprivate_key = \"/k\"",
                &[
                    "3:1: server.tls.client_ca is missing: clients' certificates are to be verified",
                    "5:15: server.tls.certificate must be an absolute path, but is \"c\"",
                ],
            ),
            (
                "certificates that nobody verifies",
                "[auth]\nmethod = \"cert\"",
                &["2:10: auth.method = \"cert\" needs server.tls.client_ca"],
            ),
            (
                "peers without a socket",
                "[server]\nlisten = [\"h:1\"]\n[auth]\nmethod = \"peer\"",
                &["4:10: auth.method = \"peer\" needs a unix socket in server.listen"],
            ),
            (
                "lines without a file",
                "[auth]\nmethod = \"hba\"",
                &["2:10: auth.method = \"hba\" needs auth.hba_file"],
            ),
            (
                "a file that nobody reads",
                "[auth]\nmethod = \"trust\"\nhba_file = \"/h\"",
                &["3:12: auth.hba_file needs auth.method = \"hba\""],
            ),
            (
                "md5 needs passwords, too",
                "[auth]\nmethod = \"md5\"\n[[users]]\nname = \"a\"",
                &["3:1: user \"a\" has no password, which auth.method = \"md5\" needs"],
            ),
            (
                "a hash that SCRAM cannot use",
                "[[users]]\nname = \"a\"\npassword = [\"x\", \"md5a6343a68d964ca596d9752250d54bb8a\"]",
                &["3:18: users.password is an md5 hash, which cannot answer auth.method = \"scram-sha-256\""],
            ),
            (
                "no password among none",
                "[[users]]\nname = \"a\"\npassword = []",
                &["3:12: users.password is empty"],
            ),
            (
                "a question without a role or a name",
                "[auth]\nmethod = \"trust\"\nquery = \"SELECT 1\"\nquery_database = \"shop\"",
                &[
                    "3:9: auth.query must have $1 in it, where the user's name goes",
                    "4:18: auth.query_database needs auth.query_as = { user = ..., password = ... }",
                ],
            ),
            (
                "a question to nobody",
                "[auth]\nquery_as = { user = \"a\" }\nquery_database = \"shpo\"",
                &[
                    "3:18: auth.query_database names the database \"shpo\", which is not there; did you mean \"shop\"?",
                ],
            ),
            ("whom a server knows need not be listed", "[auth]\nquery_as = { user = \"a\" }", &[]),
        ],
    );
}

#[test]
fn a_database_has_distinct_shards_and_what_they_need() {
    assert_lines(
        TRUST,
        &[
            ("none yet, and somebody knows: the console alone", "[databases]", &[]),
            (
                "no database",
                "",
                &["1:1: no database: add [databases.NAME] with its [[databases.NAME.shards]]"],
            ),
            ("no shard", "[databases.a]", &["1:1: database \"a\" has no shard: add [[databases.a.shards]]"]),
            (
                "an empty list of shards",
                "[databases.a]\nshards = []",
                &["1:1: database \"a\" has no shard: add [[databases.a.shards]]"],
            ),
            (
                "a catalog without shards is one problem",
                "[databases.a]\ncatalog = \"s0\"",
                &["1:1: database \"a\" has no shard: add [[databases.a.shards]]"],
            ),
            (
                "a shard without anything",
                "[[databases.a.shards]]",
                &["1:1: databases.a.shards.name is missing", "1:1: databases.a.shards.primary is missing"],
            ),
            (
                "the console's names",
                "[databases]\npgherd.shards = [{ name = \"s\", primary = \"postgres://h/a\" }]\npgbouncer.shards = [{ name = \"s\", primary = \"postgres://h/a\" }]",
                &[
                    "2:1: database \"pgherd\" is pgherd's own console; choose another name",
                    "3:1: database \"pgbouncer\" is pgherd's own console; choose another name",
                ],
            ),
            (
                "the same name, and the same server twice",
                "[databases.a]\ncontrol.user = \"c\"\nshards = [\n{ name = \"s\", primary = \"postgres://h/a\" },\n{ name = \"s\", primary = \"postgres://H:5432/a\" },\n]",
                &[
                    "5:10: shard \"s\" again; it is already in line 4",
                    "5:25: database \"a\" at H:5432 is a shard again; it is already in line 4",
                ],
            ),
            (
                "another database of the same server is fine",
                "[databases.a]\ncontrol.user = \"c\"\nshards = [\n{ name = \"s\", primary = \"postgres://h/a\" },\n{ name = \"t\", primary = \"postgres://h/b\" },\n]",
                &[],
            ),
            (
                "two shards need control",
                "[databases.a]\nshards = [\n{ name = \"s\", primary = \"postgres://h/a\" },\n{ name = \"t\", primary = \"postgres://i/a\" },\n]",
                &[
                    "1:1: database \"a\" has more than one shard and needs control = { user = ..., password = ... }",
                ],
            ),
            (
                "rows need somewhere to go",
                "[databases.a]\ncontrol.user = \"c\"\nshards = [\n{ name = \"s\", primary = \"postgres://h/a\", weight = 0 },\n{ name = \"t\", primary = \"postgres://i/a\", weight = 0 },\n]",
                &["4:52: every shard of database \"a\" has the weight 0"],
            ),
            (
                "every shard is looked at",
                "[databases.a]\ncontrol.user = \"c\"\nshards = [\n{ name = \"s 0\", primary = \"postgres://u:p@h/a\", weight = 10001 },\n{ name = \"t\", primary = \"postgres://h\", region = \"\" },\n]",
                &[
                    "4:10: databases.a.shards.name must consist of letters, digits, \"_\", \"-\" and \".\", but is \"s 0\"",
                    "4:27: databases.a.shards.primary must not hold a user or password: clients' belong in [[users]], pgherd's own in control",
                    "4:58: databases.a.shards.weight must be from 0 to 10000, but is 10001",
                    "5:25: databases.a.shards.primary has no database name, as in \"postgres://host:port/dbname\"",
                    "5:50: databases.a.shards.region must not be empty",
                ],
            ),
        ],
    );
    assert_lines(
        &format!("{TRUST}{SHOP}"),
        &[
            ("a catalog that is there", "[databases.shop]\ncatalog = \"s0\"", &[]),
            (
                "a catalog that is not",
                "[databases.shop]\ncatalog = \"s1\"",
                &["2:11: catalog names the shard \"s1\", which is not there; did you mean \"s0\"?"],
            ),
            (
                "one shard with tables needs control",
                "[databases.shop.tables]\na = { reference = true }",
                &["1:12: database \"shop\" has tables and needs control = { user = ..., password = ... }"],
            ),
            (
                "control without user",
                "[databases.shop]\ncontrol = {}",
                &["2:11: databases.shop.control.user is missing"],
            ),
            (
                "control with a verifier",
                "[databases.shop.control]\nuser = \"c\"\npassword = \"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\"",
                &[
                    "3:12: databases.shop.control.password must be the password itself: a SCRAM verifier only checks others",
                ],
            ),
        ],
    );
}

#[test]
fn a_table_has_one_placement_and_a_key_of_its_distribution() {
    const D: &str = "[databases.shop]\ndistributions.d = { by = \"hash\", type = \"bigint\" }\ndistributions.two = { by = \"hash\", type = [\"text\", \"uuid\"] }\n[databases.shop.tables]\n";
    const ONE_OF: &str =
        "must have one of { distribution = ..., key = ... }, { reference = true } or { shard = ... }";
    let none = format!("5:1: table \"a\" {ONE_OF}");
    let not = format!("5:19: table \"a\" {ONE_OF}");
    let cases: &[Case<'_>] = &[
        ("sharded", "a = { distribution = \"d\", key = \"id\" }", &[]),
        ("sharded by two columns", "a = { distribution = \"two\", key = [\"t\", \"id\"] }", &[]),
        ("with its schema", "\"public.a\" = { reference = true }", &[]),
        ("as a section", "[databases.shop.tables.\"public.a\"]\nshard = \"s1\"", &[]),
        ("with dots", "a.distribution = \"d\"\na.key = \"id\"", &[]),
        ("nothing said", "a = {}", &[&none]),
        ("not a copy, but then what", "a = { reference = false }", &[&not]),
        (
            "two things said",
            "a = { distribution = \"d\", key = \"id\", shard = \"s0\" }",
            &["5:1: table \"a\" has distribution and shard, but must have only one of them"],
        ),
        (
            "a key of what",
            "a = { reference = true, key = \"id\" }",
            &["5:31: table \"a\" has a key, which only a table with a distribution has"],
        ),
        ("no key", "a = { distribution = \"d\" }", &["5:1: table \"a\" has a distribution, but no key"]),
        (
            "no such distribution",
            "a = { distribution = \"twoo\", key = \"id\" }",
            &["5:22: table \"a\" names the distribution \"twoo\", which is not there; did you mean \"two\"?"],
        ),
        (
            "no such shard",
            "a = { shard = \"zz\" }",
            &["5:15: table \"a\" names the shard \"zz\", which is not there"],
        ),
        (
            "one column for two types",
            "a = { distribution = \"two\", key = \"id\" }",
            &["5:35: table \"a\" has a key of 1 column, but distribution \"two\" has 2 types"],
        ),
        (
            "no column",
            "a = { distribution = \"d\", key = [] }",
            &["5:33: table \"a\" has a key of 0 columns, but distribution \"d\" has 1 type"],
        ),
        (
            "a column twice",
            "a = { distribution = \"two\", key = [\"id\", \"id\"] }",
            &["5:42: table \"a\" has the key column \"id\" again; it is already in line 5"],
        ),
        (
            "a key that is no name",
            "a = { distribution = \"d\", key = \"a.b\" }",
            &["5:33: databases.shop.tables.a.key must be a column of the table, but is \"a.b\""],
        ),
        ("not a table", "a = \"d\"", &["5:5: databases.shop.tables.a must be a table, but is a string"]),
        (
            "a schema without quotes",
            "public.a = { reference = true }",
            &["5:1: a table with its schema is written in quotes: \"public.a\" = { ... }"],
        ),
        (
            "three names",
            "\"x.public.a\" = { reference = true }",
            &["5:1: table \"x.public.a\" must be \"table\" or \"schema.table\""],
        ),
        (
            "one name in two spellings",
            "a = { reference = true }\n'\"a\"' = { shard = \"s0\" }",
            &["6:1: table \"\\\"a\\\"\" again; it is already in line 5"],
        ),
        (
            "a letter that PostgreSQL would fold",
            "Orders = { reference = true }",
            &[
                "5:1: table \"Orders\" has upper-case letters: write orders as PostgreSQL folds it, or '\"Orders\"' if it was created in quotes",
            ],
        ),
    ];
    for (why, table, expected) in cases {
        assert_lines(&format!("{SHOP_OF_TWO}{TRUST}"), &[(why, &format!("{D}{table}"), expected)]);
    }
    assert_lines(
        &format!("{SHOP_OF_TWO}{TRUST}"),
        &[
            (
                "a distribution of nothing",
                "[databases.shop.distributions.d]",
                &[
                    "1:1: databases.shop.distributions.d.by is missing",
                    "1:1: databases.shop.distributions.d.type is missing",
                ],
            ),
            (
                "no types",
                "[databases.shop.distributions.d]\nby = \"hash\"\ntype = []",
                &["3:8: distribution \"d\" has no type"],
            ),
            (
                "a type that cannot be a key, and its table is not wrong as well",
                "[databases.shop]\ntables.a = { distribution = \"d\", key = [\"x\", \"y\"] }\ndistributions.d = { by = \"hash\", type = \"jsonb\" }",
                &["3:41: databases.shop.distributions.d.type = \"jsonb\" is not a type that a key can have"],
            ),
        ],
    );
}

#[test]
fn a_file_that_is_not_toml_says_where() {
    assert_lines(
        "",
        &[
            (
                "an open string",
                "[pool]\nmode = \"trans\nsize = 3",
                &["2:14: not TOML: invalid basic string, expected `\"`"],
            ),
            ("a key twice", "[pool]\nsize = 3\nsize = 4", &["3:1: not TOML: duplicate key"]),
            ("a section twice", "[pool]\n[server]\n[pool]", &["3:2: not TOML: duplicate key"]),
            (
                "two mistakes, two lines",
                "[pool]\nsize =\nmode = tx",
                &[
                    "2:7: not TOML: string values must be quoted, expected literal string",
                    "3:8: not TOML: invalid boolean, expected `true`",
                ],
            ),
        ],
    );
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let toml = r#"
[pool]
checkout_timeout = 5
colour = "red"

[databases.shop]
catalog = "s9"
tables.orders = { distribution = "customer", key = ["a", "b"] }
tables.notes = { distribution = "tenant", key = "id" }
distributions.customer = { by = "hash", type = "bigint" }

[[databases.shop.shards]]
name = "s0"
primary = "postgres://h:5501/shop"

[[databases.shop.shards]]
name = "s1"
primary = "postgres://h:5501/shop"
weight = "heavy"

[server]
http = "unix:/run"
"#;
    let expected = "\
pgherd.toml:1:1: no [[users]]: with auth.method = \"scram-sha-256\" nobody could log in
pgherd.toml:3:20: pool.checkout_timeout needs a unit, as in \"5s\" (units are ms, s, m, h, d)
pgherd.toml:4:1: unknown key \"colour\"
pgherd.toml:6:1: database \"shop\" has more than one shard and needs control = { user = ..., password = ... }
pgherd.toml:7:11: catalog names the shard \"s9\", which is not there; did you mean \"s0\"?
pgherd.toml:8:52: table \"orders\" has a key of 2 columns, but distribution \"customer\" has 1 type
pgherd.toml:9:33: table \"notes\" names the distribution \"tenant\", which is not there
pgherd.toml:18:11: database \"shop\" at h:5501 is a shard again; it is already in line 14
pgherd.toml:19:10: databases.shop.shards.weight must be an integer, but is a string
pgherd.toml:22:8: server.http must be \"host:port\"
10 problems; this configuration is not used";
    let problems = parse(toml, "pgherd.toml").unwrap_err();
    assert_eq!(problems.to_string(), expected);
    assert!(
        problems
            .report("the running configuration is unchanged")
            .ends_with("\n10 problems; the running configuration is unchanged")
    );
}

#[test]
fn one_problem_is_counted_as_one() {
    let problems = parse(&format!("x = 1\n{TRUST}{SHOP}"), "f").unwrap_err();
    assert_eq!(problems.to_string(), "f:1:1: unknown key \"x\"\n1 problem; this configuration is not used");
}

/// Neither a panic nor a refusal without a reason, whatever the operator's editor did to the file.
#[test]
fn a_damaged_file_is_refused_with_a_reason_or_accepted() {
    let example = include_str!("../examples/four-shards.toml");
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos() as u64 | 1;
    println!("seed {seed}");
    let mut state = seed;
    let mut below = |bound: usize| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % bound
    };
    for _ in 0..3000 {
        let mut text: Vec<char> = example.chars().collect();
        for _ in 0..=below(3) {
            let from = below(text.len());
            match below(3) {
                0 => text[from] = ['"', '[', ']', '{', '.', '=', '\n', '0', 'x', 'é', '%', ':'][below(12)],
                1 => drop(text.drain(from..(from + below(40)).min(text.len()))),
                _ => {
                    let piece: Vec<char> = text[from..(from + below(80)).min(text.len())].to_vec();
                    let to = below(text.len());
                    text.splice(to..to, piece);
                }
            }
        }
        let text: String = text.into_iter().collect();
        if let Err(problems) = parse(&text, "f") {
            let shown = problems.to_string();
            assert!(!problems.list().is_empty() && !shown.contains("fault in pgherd"), "{shown}\n{text}");
            assert_eq!(shown.lines().count(), problems.list().len() + 1, "one line a problem: {shown}");
        }
    }
}

/// Of a database with the shards s0 and s1; `{d}` is a distribution's section.
fn assert_spread(cases: &[Case<'_>]) {
    let cases: Vec<(&str, String, &[&str])> = cases
        .iter()
        .map(|(why, toml, expected)| (*why, format!("[databases.shop.distributions.d]\n{toml}"), *expected))
        .collect();
    let cases: Vec<Case<'_>> =
        cases.iter().map(|(why, toml, expected)| (*why, toml.as_str(), *expected)).collect();
    assert_lines(&format!("{TRUST}{SHOP_OF_TWO}"), &cases);
}

#[test]
fn ranges_take_every_key_once() {
    let day = |ranges: &str| format!("by = \"range\"\ntype = \"date\"\nranges = [\n{ranges}\n]\n");
    assert_spread(&[
        (
            "in any order, with open ends",
            &day("{ from = \"2024-01-01\", shard = \"s1\" },\n{ to = \"2024-01-01\", shard = \"s0\" }"),
            &[],
        ),
        ("TOML's own dates", &day("{ from = 2024-01-01, to = 2024-02-01, shard = \"s0\" }"), &[]),
        ("one for everything", &day("{ shard = \"s0\" }"), &[]),
        (
            "an overlap",
            &day("{ to = \"2024-01-02\", shard = \"s0\" },\n{ from = \"2024-01-01\", shard = \"s1\" }"),
            &["6:1: distribution \"d\" has a range with keys of the one in line 5"],
        ),
        (
            "a gap",
            &day("{ to = \"2024-01-01\", shard = \"s0\" },\n{ from = \"2024-01-02\", shard = \"s1\" }"),
            &[
                "6:1: distribution \"d\" has no range from \"2024-01-01\" to \"2024-01-02\"; say gaps = true if such keys are to be refused",
            ],
        ),
        (
            "a gap that is meant",
            &format!(
                "gaps = true\n{}",
                day("{ to = \"2024-01-01\", shard = \"s0\" },\n{ from = \"2024-01-02\", shard = \"s1\" }")
            ),
            &[],
        ),
        (
            "nothing in it",
            &day("{ from = \"2024-01-02\", to = \"2024-01-01\", shard = \"s0\" }"),
            &["5:1: distribution \"d\" has a range that ends before it begins, or where"],
        ),
        (
            "no date, and no shard",
            &day("{ to = \"2023-02-29\", shard = \"s2\" }"),
            &["5:8: \"2023-02-29\" is no date", "5:30: there is no shard \"s2\"; did you mean \"s0\"?"],
        ),
        (
            "a date that depends on settings",
            &day("{ to = \"01/02/2024\", shard = \"s0\" }"),
            &[
                "5:8: \"01/02/2024\" is a date only under some settings of a server; write it in full (dates as in \"2024-02-29\", moments with their offset)",
            ],
        ),
        (
            "no ranges",
            "by = \"range\"\ntype = \"date\"",
            &["2:6: distribution \"d\" is by range, but has no ranges"],
        ),
        (
            "of a hash",
            "by = \"hash\"\ntype = \"date\"\nranges = [{ shard = \"s0\" }]\ngaps = true",
            &[
                "4:10: distribution \"d\" has ranges, which only by = \"range\" has",
                "5:8: distribution \"d\" has gaps, which only by = \"range\" has",
            ],
        ),
        (
            "a composite key",
            "by = \"range\"\ntype = [\"date\", \"text\"]\nranges = [{ shard = \"s0\" }]",
            &["2:6: distribution \"d\" is by range, so its key has one column"],
        ),
        (
            "without a shard",
            "by = \"range\"\ntype = \"date\"\n[[databases.shop.distributions.d.ranges]]\nfrom = 2024-01-01",
            &["4:1: databases.shop.distributions.d.ranges.shard is missing"],
        ),
        (
            "a directory of dates",
            "by = \"directory\"\ntype = \"date\"",
            &["3:8: distribution \"d\" is by directory: its key must be an integer, text, varchar or uuid"],
        ),
        ("a directory", "by = \"directory\"\ntype = \"text\"\nnew_keys = \"s1\"", &[]),
        (
            "a policy that is none, and no shard",
            "by = \"directory\"\ntype = \"text\"\nnew_keys = \"s3\"",
            &["4:12: there is no shard \"s3\"; did you mean \"s0\"?"],
        ),
        (
            "a policy of a hash",
            "by = \"hash\"\ntype = \"text\"\nnew_keys = \"hash\"",
            &["4:12: distribution \"d\" has new_keys, which only by = \"directory\" has"],
        ),
    ]);
}

#[test]
fn lists_take_every_value_once() {
    let list = |lists: &str| format!("by = \"list\"\ntype = [\"text\", \"bigint\"]\nlists = [\n{lists}\n]\n");
    assert_spread(&[
        (
            "a value, several, NULL, the rest, a group",
            &list(
                "{ values = \"de\", shard = \"s0\" },\n{ values = [\"us\", \"ca\"], null = true, shards = [\"s0\", \"s1\"] },\n{ default = true, shard = \"s1\" }",
            ),
            &[],
        ),
        (
            "twice",
            &list("{ values = \"de\", shard = \"s0\" },\n{ values = [\"us\", \"de\"], shard = \"s1\" }"),
            &["6:19: distribution \"d\" lists \"de\" again; it is already in line 5"],
        ),
        (
            "two defaults",
            &list("{ default = true, shard = \"s0\" },\n{ default = true, shard = \"s1\" }"),
            &["6:13: distribution \"d\" has default = true again; it is already in line 5"],
        ),
        ("no value", &list("{ shard = \"s0\" }"), &["5:1: distribution \"d\" has a list without values"]),
        (
            "no shard, and two ways to name one",
            &list("{ values = \"de\" },\n{ values = \"us\", shard = \"s0\", region = \"eu\" }"),
            &[
                "5:1: a list of distribution \"d\" must have one of shard, shards and region",
                "6:1: a list of distribution \"d\" must have one of shard, shards and region",
            ],
        ),
        (
            "a region without shards",
            &list("{ values = \"de\", region = \"eu\" }"),
            &["5:27: no shard has the region \"eu\""],
        ),
        (
            "several shards and nothing to choose by",
            "by = \"list\"\ntype = \"text\"\nlists = [{ values = \"de\", shards = [\"s0\", \"s1\"] }]",
            &[
                "4:36: a list of distribution \"d\" has 2 shards, but the key has no second column that could choose among them",
            ],
        ),
        (
            "a shard twice",
            &list("{ values = \"de\", shards = [\"s0\", \"s0\"] }"),
            &["5:27: a list of distribution \"d\" must name shards, each once"],
        ),
        (
            "numbers",
            "by = \"list\"\ntype = \"integer\"\nlists = [{ values = [1, 2, \"x\"], shard = \"s0\" }]",
            &["4:28: \"x\" is no integer"],
        ),
        (
            "no lists",
            "by = \"list\"\ntype = \"text\"",
            &["2:6: distribution \"d\" is by list, but has no lists"],
        ),
    ]);
    let regions = "[[databases.shop.shards]]\nname = \"s0\"\nprimary = \"postgres://h/a\"\nregion = \"eu\"\n\
                   [[databases.shop.shards]]\nname = \"s1\"\nprimary = \"postgres://i/a\"\nregion = \"eu\"\n\
                   [databases.shop]\ncontrol = { user = \"pgherd\" }\n[databases.shop.distributions.d]\nby = \"list\"\n\
                   type = [\"text\", \"bigint\"]\nlists = [{ values = \"de\", region = \"eu\" }]\n[auth]\nmethod = \"trust\"\n";
    let config =
        parse(regions, "f").unwrap_or_else(|problems| panic!("{:?}", problems.lines().collect::<Vec<_>>()));
    let pgherd_config::Method::List(lists) = &config.databases[0].distributions[0].by else { panic!() };
    assert_eq!(lists[0].shards, [0, 1], "all shards of the region");
}

#[test]
fn what_only_a_plain_pool_can_have_is_refused_of_others() {
    const WHY: &str = "only a database with one shard and without tables can have it";
    let with_tables = |lines: &str, address: &str| {
        format!(
            "[databases.a]\ncontrol = {{ user = \"p\" }}\n{lines}\ntables = {{ t = {{ reference = true }} }}\n\
             shards = [{{ name = \"s0\", primary = \"{address}\" }}]"
        )
    };
    let refused = |at: &str, what: &str| vec![format!("{at}: database \"a\" has {what}: {WHY}")];
    let cases = [
        ("login = { user = \"u\" }", "postgres://h/a", refused("3:9", "login")),
        ("connect_query = \"SELECT 1\"", "postgres://h/a", refused("3:17", "connect_query")),
        ("startup = { TimeZone = \"UTC\" }", "postgres://h/a", refused("3:13", "startup")),
        ("", "postgres://h,i/a", refused("5:36", "several hosts in one address")),
    ];
    for (lines, address, expected) in cases {
        let toml = with_tables(lines, address);
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        assert_lines(TRUST, &[(lines, &toml, &expected)]);
        let plain = toml.replace("tables = { t = { reference = true } }", "");
        assert_lines(TRUST, &[("a plain pool", &plain, &[])]);
    }
    assert_lines(
        TRUST,
        &[(
            "what pgherd says itself",
            "[databases.a]\nshards = [{ name = \"s0\", primary = \"postgres://h/a\" }]\nstartup = { User = \"x\" }",
            &["3:13: startup cannot set User"],
        )],
    );
    assert_lines(
        "",
        &[(
            "nobody who has not proven anything has pgherd connect to any name",
            "[databases.\"*\"]\nshards = [{ name = \"s0\", primary = \"postgres://h/*\" }]\n[auth.query_as]\nuser = \"a\"",
            &["3:1: auth.query_as with a database \"*\" needs auth.query_database: where to ask"],
        )],
    );
}
