//! Every key of `[pgbouncer]`: its default there, and what pgherd makes of it.
//!
//! Invariant: a key that may be changed at run time is one that becomes a setting; of the others nobody is told that they were
//! changed.

use Meaning::{AtStart, Honoured, NoEffect, OnlyOff};

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// A setting, which a reload and SET change.
    Honoured,
    /// A setting that is read when pgherd starts.
    AtStart,
    /// It says how PgBouncer does something that pgherd does otherwise, or always.
    NoEffect(&'static str),
    /// It means something that pgherd does not do: only its default, which means nothing, is accepted.
    OnlyOff,
}

#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    /// PgBouncer 1.25's.
    pub default: &'static str,
    pub meaning: Meaning,
}

const fn key(name: &'static str, default: &'static str, meaning: Meaning) -> Key {
    Key { name, default, meaning }
}

const LOOKED_AT: Meaning = NoEffect("a server is looked at each time it is lent");
const LOGGED: Meaning = NoEffect("PGHERD_LOG says what is logged");
const NAMES: Meaning = NoEffect("names are asked for at each connection");
const RUSTLS: Meaning = NoEffect("rustls' choice");
const STDERR: Meaning = NoEffect("logs go to stderr");
const TRACKED: Meaning = NoEffect("settings are tracked for each client");
const TLS_VERSIONS: Meaning = NoEffect("TLS 1.2 and 1.3");

/// In the order of their names.
pub const KEYS: &[Key] = &[
    key("admin_users", "", Honoured),
    key("application_name_add_host", "0", OnlyOff),
    key("auth_dbname", "", Honoured),
    key("auth_file", "", Honoured),
    key("auth_hba_file", "", Honoured),
    key("auth_ident_file", "", Honoured),
    key("auth_ldap_options", "", OnlyOff),
    key(
        "auth_query",
        "SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname=$1 AND rolcanlogin",
        Honoured,
    ),
    key("auth_type", "md5", Honoured),
    key("auth_user", "", Honoured),
    key("autodb_idle_timeout", "3600", Honoured),
    key("cancel_wait_timeout", "10", NoEffect("a cancel request waits for nothing")),
    key("client_idle_timeout", "0", Honoured),
    key("client_login_timeout", "60", Honoured),
    key("client_tls13_ciphers", "", RUSTLS),
    key("client_tls_ca_file", "", Honoured),
    key("client_tls_cert_file", "", Honoured),
    key("client_tls_ciphers", "default", RUSTLS),
    key("client_tls_dheparams", "auto", RUSTLS),
    key("client_tls_ecdhcurve", "auto", RUSTLS),
    key("client_tls_key_file", "", Honoured),
    key("client_tls_protocols", "secure", TLS_VERSIONS),
    key("client_tls_sslmode", "disable", Honoured),
    key("conffile", "", NoEffect("the file is the one that was named")),
    key("default_pool_size", "20", Honoured),
    key("disable_pqexec", "0", OnlyOff),
    key("dns_max_ttl", "15", NAMES),
    key("dns_nxdomain_ttl", "15", NAMES),
    key("dns_zone_check_period", "0", NAMES),
    key("idle_transaction_timeout", "0", Honoured),
    key("ignore_startup_parameters", "", NoEffect("every startup parameter is tracked")),
    key("job_name", "pgbouncer", NoEffect("logs are lines with fields on stderr")),
    key("listen_addr", "", AtStart),
    key("listen_backlog", "128", NoEffect("it is large")),
    key("listen_port", "6432", AtStart),
    key("log_connections", "1", LOGGED),
    key("log_disconnections", "1", LOGGED),
    key("log_pooler_errors", "1", LOGGED),
    key("log_stats", "1", NoEffect("see /metrics and SHOW STATS")),
    key("logfile", "", STDERR),
    key("login_notify_message", "", OnlyOff),
    key("max_client_conn", "100", Honoured),
    key("max_db_client_connections", "0", Honoured),
    key("max_db_connections", "0", Honoured),
    key("max_packet_size", "2147483647", NoEffect("messages are streamed")),
    key("max_prepared_statements", "200", Honoured),
    key("max_user_client_connections", "0", Honoured),
    key("max_user_connections", "0", Honoured),
    key("min_pool_size", "0", Honoured),
    key("peer_id", "0", NoEffect("there are no peers")),
    key("pidfile", "", NoEffect("systemd, or whoever starts it, knows its number")),
    key("pkt_buf", "4096", NoEffect("buffers are lent for as long as they are needed")),
    key("pool_idle_timeout", "0", NoEffect("an idle pool holds nothing")),
    key("pool_mode", "session", Honoured),
    key("query_timeout", "0", Honoured),
    key("query_wait_notify", "5", NoEffect("waiting clients are told when it is over")),
    key("query_wait_timeout", "120", Honoured),
    key("reserve_pool_size", "0", Honoured),
    key("reserve_pool_timeout", "5", Honoured),
    key("resolv_conf", "", NoEffect("names are asked for as the system does")),
    key("sbuf_loopcnt", "5", NoEffect("sockets take turns")),
    key("scram_iterations", "4096", NoEffect("verifiers keep their own")),
    key("server_check_delay", "30", LOOKED_AT),
    key("server_check_query", "", LOOKED_AT),
    key("server_connect_timeout", "15", Honoured),
    key("server_fast_close", "0", NoEffect("connections of before are closed when they come back")),
    key("server_idle_timeout", "600", Honoured),
    key("server_lifetime", "3600", Honoured),
    key("server_login_retry", "15", NoEffect("attempts are 50 ms to 1 s apart")),
    key("server_reset_query", "DISCARD ALL", TRACKED),
    key("server_reset_query_always", "0", TRACKED),
    key("server_round_robin", "0", NoEffect("the connection used last is lent first")),
    key("server_tls13_ciphers", "", RUSTLS),
    key("server_tls_ca_file", "", Honoured),
    key("server_tls_cert_file", "", Honoured),
    key("server_tls_ciphers", "default", RUSTLS),
    key("server_tls_key_file", "", Honoured),
    key("server_tls_protocols", "secure", TLS_VERSIONS),
    key("server_tls_sslmode", "prefer", Honoured),
    key("service_name", "pgbouncer", NoEffect("logs are lines with fields on stderr")),
    key("so_reuseport", "0", NoEffect("it always is")),
    key("stats_period", "60", NoEffect("it is 60 s")),
    key("stats_users", "", Honoured),
    key("suspend_timeout", "10", NoEffect("SUSPEND is not there")),
    key("syslog", "0", STDERR),
    key("syslog_facility", "daemon", STDERR),
    key("syslog_ident", "pgbouncer", STDERR),
    key("tcp_defer_accept", "1", NoEffect("clients are accepted at once")),
    key("tcp_keepalive", "1", NoEffect("it is on towards servers")),
    key("tcp_keepcnt", "0", NoEffect("it is 3")),
    key("tcp_keepidle", "0", NoEffect("it is 60 s")),
    key("tcp_keepintvl", "0", NoEffect("it is 10 s")),
    key("tcp_socket_buffer", "0", NoEffect("the system's default")),
    key("tcp_user_timeout", "0", NoEffect("the system's default")),
    key("track_extra_parameters", "IntervalStyle", NoEffect("every parameter is tracked")),
    key("transaction_timeout", "0", Honoured),
    key("unix_socket_dir", "/tmp", AtStart),
    key("unix_socket_group", "", AtStart),
    key("unix_socket_mode", "0777", AtStart),
    key("user", "", NoEffect("start it as that user")),
    key("verbose", "0", LOGGED),
];

pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.binary_search_by_key(&name, |key| key.name).ok().map(|at| &KEYS[at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_key_of_pgbouncer_once_and_in_order() {
        const ALL: &str = "pool_mode default_pool_size min_pool_size reserve_pool_size reserve_pool_timeout max_client_conn \
            max_db_connections max_db_client_connections max_user_connections max_user_client_connections \
            server_round_robin max_prepared_statements disable_pqexec track_extra_parameters \
            ignore_startup_parameters application_name_add_host autodb_idle_timeout pool_idle_timeout \
            query_wait_timeout query_wait_notify query_timeout transaction_timeout idle_transaction_timeout \
            client_idle_timeout client_login_timeout cancel_wait_timeout server_lifetime server_idle_timeout \
            server_connect_timeout server_login_retry server_check_delay suspend_timeout dns_max_ttl \
            dns_nxdomain_ttl dns_zone_check_period stats_period tcp_user_timeout server_reset_query \
            server_reset_query_always server_check_query server_fast_close login_notify_message auth_type \
            auth_file auth_hba_file auth_ident_file auth_user auth_query auth_dbname auth_ldap_options \
            scram_iterations admin_users stats_users client_tls_sslmode client_tls_ca_file client_tls_cert_file \
            client_tls_key_file client_tls_protocols client_tls_ciphers client_tls13_ciphers client_tls_dheparams \
            client_tls_ecdhcurve server_tls_sslmode server_tls_ca_file server_tls_cert_file server_tls_key_file \
            server_tls_protocols server_tls_ciphers server_tls13_ciphers listen_addr listen_port listen_backlog \
            unix_socket_dir unix_socket_mode unix_socket_group so_reuseport peer_id tcp_defer_accept tcp_keepalive \
            tcp_keepidle tcp_keepintvl tcp_keepcnt tcp_socket_buffer pkt_buf sbuf_loopcnt max_packet_size \
            resolv_conf logfile pidfile user verbose syslog syslog_facility syslog_ident job_name service_name \
            conffile log_connections log_disconnections log_pooler_errors log_stats";
        let mut all: Vec<&str> = ALL.split_whitespace().collect();
        all.sort_unstable();
        assert_eq!(KEYS.iter().map(|key| key.name).collect::<Vec<_>>(), all);
        assert!(all.iter().all(|name| find(name).is_some_and(|key| key.name == *name)));
        assert!(find("colour").is_none());
    }
}
