# ruby-pg: what applications do with it.

require "pg"

SECTIONS = []

def section(name, &block)
  SECTIONS << [name, block]
end

def show(*values)
  puts "   " + values.map(&:inspect).join(" ")
  $stdout.flush
end

def connect(**more)
  PG.connect(connect_timeout: 20, **more)
end

def attempt(what)
  show what, yield
rescue PG::Error => error
  result = error.result
  state = result && result.error_field(PG::Result::PG_DIAG_SQLSTATE)
  show what, error.class, state, result ? result.error_field(PG::Result::PG_DIAG_MESSAGE_PRIMARY) : error.message.lines.first
end

section "queries" do
  c = connect(application_name: "ruby", options: "-c work_mem=5MB -c search_path=public,elsewhere")
  show c.exec("SHOW work_mem").values, c.exec("SHOW search_path").values, c.parameter_status("application_name")
  c.exec("CREATE TABLE r (a int PRIMARY KEY, b text, c bytea)")
  show c.exec_params("INSERT INTO r VALUES ($1, $2, $3) RETURNING a, b", [1, "one", { value: "\x00\xff".b, format: 1 }]).values
  show c.exec_params("SELECT c FROM r WHERE a = $1", [1], 1).getvalue(0, 0)
  attempt("again") { c.exec_params("INSERT INTO r VALUES ($1)", [1]).cmd_tuples }
  show c.exec("SELECT 1; SELECT 2").values
  attempt("one of several") { c.exec("SELECT 1; SELECT 1/0; SELECT 2").values }
  c.type_map_for_results = PG::BasicTypeMapForResults.new(c)
  show c.exec("SELECT 1, 2.5::float8, true, NULL, ARRAY[1,2], '2024-02-29'::date::text").values
  c.close
end

section "prepared" do
  c = connect
  c.prepare("by_name", "SELECT $1::int + $2::int")
  30.times { |n| c.exec_prepared("by_name", [n, 1]) }
  show c.exec_prepared("by_name", [20, 22]).values
  show c.describe_prepared("by_name").nfields
  attempt("twice") { c.prepare("by_name", "SELECT 1") }
  attempt("unknown") { c.exec_prepared("nobody", []) }
  c.exec("DEALLOCATE by_name")
  attempt("gone") { c.exec_prepared("by_name", [1, 2]).values }
  c.prepare("by_name", "SELECT 'new'")
  show c.exec_prepared("by_name", []).values
  c.close
end

section "transactions" do
  c = connect
  c.exec("CREATE TABLE t (a int)")
  c.transaction { |t| t.exec("INSERT INTO t VALUES (1)") }
  attempt("rolled back") { c.transaction { |t| t.exec("INSERT INTO t VALUES (2)"); t.exec("SELECT 1/0") } }
  show c.exec("SELECT array_agg(a) FROM t").values, c.transaction_status
  c.exec("BEGIN")
  c.exec("SAVEPOINT a")
  attempt("inside") { c.exec("SELECT nothing") }
  show c.transaction_status
  attempt("aborted") { c.exec("SELECT 1").values }
  c.exec("ROLLBACK TO a")
  show c.exec("SELECT 1").values
  c.exec("COMMIT")
  c.close
end

section "pipeline" do
  c = connect
  c.exec("CREATE TABLE p (a int PRIMARY KEY)")
  c.enter_pipeline_mode
  5.times { |n| c.send_query_params("INSERT INTO p VALUES ($1)", [n % 4]) }
  c.pipeline_sync
  c.send_query_params("SELECT count(*) FROM p", [])
  c.pipeline_sync
  said = []
  syncs = 0
  while syncs < 2
    result = c.get_result
    said << (result ? result.res_status(result.result_status) : "-")
    if result && result.result_status == PG::PGRES_PIPELINE_SYNC
      syncs += 1
    end
  end
  show said
  c.exit_pipeline_mode
  show c.exec("SELECT 'after'").values
  c.close
end

section "copy" do
  c = connect
  c.exec("CREATE TABLE c (a int, b text)")
  c.copy_data("COPY c FROM STDIN CSV") { 500.times { |n| c.put_copy_data("#{n},row #{n}\n") } }
  lines = []
  c.copy_data("COPY (SELECT * FROM c ORDER BY a LIMIT 2) TO STDOUT") { while (row = c.get_copy_data) do lines << row end }
  show lines
  attempt("bad data") { c.copy_data("COPY c FROM STDIN CSV") { c.put_copy_data("x,y\n") } }
  attempt("given up") { c.copy_data("COPY c FROM STDIN CSV") { c.put_copy_data("1,y\n"); raise PG::Error, "given up" } }
  show c.exec("SELECT count(*) FROM c").values
  c.close
end

section "listen" do
  c, other = connect, connect
  c.exec("LISTEN ruby")
  other.exec_params("SELECT pg_notify('ruby', $1)", ["hello"])
  heard = nil
  c.wait_for_notify(10) { |channel, _pid, payload| heard = [channel, payload] }
  show heard
  c.exec("UNLISTEN ruby")
  other.exec("NOTIFY ruby")
  show c.wait_for_notify(0.3)
  c.close
  other.close
end

section "reset_and_cancel" do
  c = connect(application_name: "reset")
  c.exec("SET work_mem = '7MB'")
  c.reset
  show c.exec("SHOW work_mem").values, c.exec("SHOW application_name").values
  c.send_query("SELECT pg_sleep(30)")
  other = connect
  running = "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(30)' AND state = 'active'"
  200.times { break if other.exec(running).ntuples > 0 }
  show c.cancel
  attempt("cancelled") { c.get_last_result.values }
  show c.exec("SELECT 'goes on'").values
  c.close
  other.close
end

section "threads" do
  setup = connect
  setup.exec("CREATE TABLE counted (n int)")
  setup.exec("INSERT INTO counted VALUES (0)")
  threads = (0...8).map do |number|
    Thread.new do
      c = connect(application_name: "thread #{number}")
      20.times { c.transaction { |t| t.exec("UPDATE counted SET n = n + 1") } }
      name = c.exec("SHOW application_name").getvalue(0, 0)
      c.close
      name
    end
  end
  show threads.map(&:value)
  show setup.exec("SELECT n FROM counted").values
  setup.close
end

only = ENV.fetch("ONLY", "")
SECTIONS.each do |name, block|
  next unless name.include?(only)
  puts "== #{name}"
  begin
    block.call
  rescue StandardError => error
    show "!! ended", error.class, error.message, error.backtrace.first
  end
end
