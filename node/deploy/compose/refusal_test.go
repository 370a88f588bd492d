package compose_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ployz/ployz/node/api"
	"github.com/ployz/ployz/node/deploy/compose"
)

// head is the three lines before each service body below, which so begins at line 4.
const head = "services:\n  web:\n    image: web:1\n"

// TestRefusals: each bad file, and what is said about it: FILE:LINE PATH CODE.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name, file string
		want       []string
	}{
		{"build", head + "    build: .", []string{"compose.yaml:4 services.web.build compose.unsupported-key"}},
		{"misspelt", head + "    enviroment: {A: b}", []string{"compose.yaml:4 services.web.enviroment compose.unknown-key"}},
		{"misspelt at the top", head + "secrts: {}", []string{"compose.yaml:4 secrts compose.unknown-key"}},
		{"deep", head + "    deploy:\n      resources:\n        limits:\n          memori: 1g", []string{"compose.yaml:7 services.web.deploy.resources.limits.memori compose.unknown-key"}},
		{"undeclared volume", head + "    volumes:\n      - db:/var/lib/db\n", []string{"compose.yaml:5 services.web.volumes[0] compose.bad-value"}},
		{"bind", head + "    volumes:\n      - {type: bind, source: /a, target: /b}\n      - ./a:/c:ro,z\n      - ~/a:/d", []string{
			"compose.yaml:5 services.web.volumes[0] compose.unsupported-key", "compose.yaml:6 services.web.volumes[1] compose.unsupported-key", "compose.yaml:7 services.web.volumes[2] compose.unsupported-key"}},
		{"bind options", head + "    volumes:\n      - {type: bind, source: /a, target: /b, bind: {propagation: shared}}", []string{"compose.yaml:5 services.web.volumes[0].bind compose.unsupported-key"}},
		{"image as a volume", head + "    volumes:\n      - {type: image, source: a, target: /b}", []string{"compose.yaml:5 services.web.volumes[0] compose.unsupported-key"}},
		{"anonymous volume", head + "    volumes:\n      - /var/lib/db\n", []string{"compose.yaml:5 services.web.volumes[0] compose.unsupported-key"}},
		{"mount options", head + "    volumes: ['db:/a:ro,z', {type: volume, source: db, target: /b, volume: {subpath: x}}, {type: tmpfs, target: /c, read_only: true}]\nvolumes:\n  db:", []string{
			"compose.yaml:4 services.web.volumes[0] compose.unsupported-key", "compose.yaml:4 services.web.volumes[1].volume.subpath compose.unsupported-key", "compose.yaml:4 services.web.volumes[2].read_only compose.unsupported-key"}},
		{"volume targets", head + "    volumes: ['db:/a', 'db:/', 'db:/b']\n    tmpfs: [/b]\nvolumes:\n  db:", []string{"compose.yaml:4 services.web.volumes compose.bad-value"}},
		{"volume over tmpfs", head + "    volumes: ['db:/b']\n    tmpfs: [/b]\nvolumes:\n  db:", []string{"compose.yaml:4 services.web.volumes compose.bad-value"}},
		{"foreign volumes", head + "volumes:\n  a:\n    external: true\n    name: b\n  c:\n    driver: nfs\n    driver_opts: {o: x}\n    labels: [a=b]\n  e.f: {}", []string{
			"compose.yaml:6 volumes.a.external compose.unsupported-key", "compose.yaml:7 volumes.a.name compose.unsupported-key", "compose.yaml:9 volumes.c.driver compose.unsupported-key",
			"compose.yaml:10 volumes.c.driver_opts compose.unsupported-key", "compose.yaml:11 volumes.c.labels compose.unsupported-key", "compose.yaml:12 volumes.e.f compose.bad-name"}},
		{"volume values", head + "volumes:\n  a:\n    x-ployz:\n      size: 5\n      owner: postgres\n      mode: '9'\n      scope: cluster\n  c: {x-ployz: {owner: '5:'}}\n  d: {x-ployz: [size]}", []string{
			"compose.yaml:7 volumes.a.x-ployz.size compose.bad-value", "compose.yaml:8 volumes.a.x-ployz.owner compose.bad-value", "compose.yaml:9 volumes.a.x-ployz.mode compose.bad-value",
			"compose.yaml:10 volumes.a.x-ployz.scope compose.bad-value", "compose.yaml:11 volumes.c.x-ployz.owner compose.bad-value", "compose.yaml:12 volumes.d.x-ployz compose.bad-value"}},
		{"volume keys", head + "volumes:\n  b: {x-ployz: {mode: 750, sise: 1g}}", []string{
			"compose.yaml:5 volumes.b.x-ployz.mode compose.bad-value", "compose.yaml:5 volumes.b.x-ployz.sise compose.unknown-key"}},
		{"networks", head + "    networks: [front, default]\nnetworks:\n  front:", []string{
			"compose.yaml:4 services.web.networks compose.unsupported-key", "compose.yaml:6 networks.front compose.unsupported-key"}},
		{"network alias", head + "    networks: {default: {aliases: [a]}}", []string{"compose.yaml:4 services.web.networks.default.aliases compose.unsupported-key"}},
		{"network_mode", head + "    network_mode: host", []string{"compose.yaml:4 services.web.network_mode compose.unsupported-key"}},
		{"privileged", head + "    privileged: true", []string{"compose.yaml:4 services.web.privileged compose.unsupported-key"}},
		{"tty", head + "    tty: true\n    stdin_open: true", []string{"compose.yaml:4 services.web.tty compose.unsupported-key", "compose.yaml:5 services.web.stdin_open compose.unsupported-key"}},
		{"logging", head + "    logging:\n      driver: syslog", []string{"compose.yaml:5 services.web.logging.driver compose.unsupported-key"}},
		{"pull", head + "    pull_policy: always\n    runtime: nvidia", []string{"compose.yaml:4 services.web.pull_policy compose.unsupported-key", "compose.yaml:5 services.web.runtime compose.unsupported-key"}},
		{"security_opt", head + "    security_opt:\n      - no-new-privileges\n      - apparmor:mine", []string{"compose.yaml:6 services.web.security_opt[1] compose.unsupported-key"}},
		{"published range", head + "    ports:\n      - 80\n      - '3000-3005:80'", []string{"compose.yaml:5 services.web.ports[0] compose.bad-value", "compose.yaml:6 services.web.ports[1] compose.bad-value"}},
		{"sctp", head + "    ports: ['1:1/sctp']", []string{"compose.yaml:4 services.web.ports[0] compose.unsupported-key"}},
		{"constraint", head + "    deploy:\n      placement:\n        constraints:\n          - node.labels.ssd == true", []string{"compose.yaml:7 services.web.deploy.placement.constraints[0] compose.unsupported-key"}},
		{"two machines", head + "    deploy: {placement: {constraints: [node.hostname == a, node.hostname == b]}}", []string{"compose.yaml:4 services.web.deploy.placement.constraints[1] compose.bad-value"}},
		{"mode", head + "    deploy:\n      mode: replicated-job", []string{"compose.yaml:5 services.web.deploy.mode compose.unsupported-key"}},
		{"update", head + "    deploy:\n      update_config:\n        order: stop-first\n        parallelism: 1\n        failure_action: continue\n        delay: 5s", []string{
			"compose.yaml:7 services.web.deploy.update_config.parallelism compose.unsupported-key",
			"compose.yaml:8 services.web.deploy.update_config.failure_action compose.unsupported-key",
			"compose.yaml:9 services.web.deploy.update_config.delay compose.unsupported-key"}},
		{"restart", head + "    restart: sometimes", []string{"compose.yaml:4 services.web.restart compose.bad-value"}},
		{"unknown dependency", head + "    depends_on: [db]", []string{"compose.yaml:4 services.web.depends_on.db compose.bad-value"}},
		{"restart of a dependent", head + "    depends_on:\n      db: {condition: service_started, restart: true}\n  db: {image: db}", []string{"compose.yaml:5 services.web.depends_on.db.restart compose.unsupported-key"}},
		{"healthcheck without test", head + "    healthcheck: {interval: 5s}", []string{"compose.yaml:4 services.web.healthcheck.test compose.bad-value"}},
		{"healthcheck of no kind", head + "    healthcheck:\n      test: [curl, localhost]", []string{"compose.yaml:5 services.web.healthcheck.test compose.bad-value"}},
		{"no image", "services:\n  web:\n    command: x", []string{"compose.yaml:2 services.web.image compose.bad-value"}},
		{"empty command", head + "    command: []", []string{"compose.yaml:4 services.web.command compose.bad-value"}},
		{"host-gateway", head + "    extra_hosts: ['me:host-gateway']", []string{"compose.yaml:4 services.web.extra_hosts compose.unsupported-key"}},
		{"ulimit", head + "    ulimits: {nofile: {soft: 10, hard: 5}}", []string{"compose.yaml:4 services.web.ulimits.nofile compose.bad-value"}},
		{"device", head + "    devices: ['nvidia.com/gpu=all']", []string{"compose.yaml:4 services.web.devices[0] compose.unsupported-key"}},
		{"limits at odds", head + "    mem_limit: 1g\n    deploy:\n      resources: {limits: {memory: 2g}}", []string{"compose.yaml:6 services.web.deploy.resources.limits.memory compose.bad-value"}},
		{"tmpfs option", head + "    tmpfs: ['/a:uid=5', '/b:size=lots']", []string{
			"compose.yaml:4 services.web.tmpfs[0] compose.unsupported-key", "compose.yaml:4 services.web.tmpfs[1] compose.bad-value"}},
		{"service name", "services:\n  my_web:\n    image: x", []string{"compose.yaml:2 services.my_web compose.bad-name"}},
		{"namespace", "name: My_Shop\n" + head, []string{"compose.yaml:1 name compose.bad-name"}},
		{"no such secret", head + "    secrets: [a]\n    configs: [b]", []string{"compose.yaml:4 services.web.secrets[0] compose.bad-value", "compose.yaml:5 services.web.configs[0] compose.bad-value"}},
		{"decimal mode", head + "    configs: [{source: a, mode: 440, uid: root}]\nconfigs: {a: {content: x}}", []string{
			"compose.yaml:4 services.web.configs[0].mode compose.bad-value", "compose.yaml:4 services.web.configs[0].uid compose.bad-value"}},
		{"missing files", head + "    env_file: a.env\n    secrets: [s]\n    label_file: l\nsecrets:\n  s:\n    file: ./s\n", []string{
			"compose.yaml:4 services.web.env_file compose.file-missing", "compose.yaml:6 services.web.label_file compose.file-missing", "compose.yaml:9 secrets.s.file compose.file-missing"}},
		{"unset variables", head + "    command: [a, $B, '${C:?say}']\n    user: ${D}", []string{
			"compose.yaml:4 services.web.command[1] compose.variable-unset", "compose.yaml:4 services.web.command[2] compose.variable-unset", "compose.yaml:5 services.web.user compose.variable-unset"}},
		{"malformed variable", head + "    user: ${D", []string{"compose.yaml:4 services.web.user compose.bad-value"}},
		{"unset secret", head + "    secrets: [s]\nsecrets:\n  s:\n    environment: GONE", []string{"compose.yaml:7 secrets.s.environment compose.variable-unset"}},
		{"old external", head + "    secrets: [s]\nsecrets:\n  s:\n    external:\n      name: t", []string{"compose.yaml:8 secrets.s.external.name compose.unsupported-key"}},
		{"relative tmpfs", head + "    tmpfs: [a]", []string{"compose.yaml:4 services.web.tmpfs compose.bad-value"}},
		{"two in one place", head + "    tmpfs: [/dev/shm]\n    shm_size: 1g", []string{"compose.yaml:4 services.web.tmpfs compose.bad-value"}},
		{"inactive dependency", head + "    depends_on: [db]\n  db: {image: db, profiles: [x]}", []string{"compose.yaml:4 services.web.depends_on.db compose.bad-value"}},
		{"none active", "services:\n  web: {image: a, profiles: [x]}", []string{"compose.yaml:1 services compose.bad-value"}},
		{"job with ports", head + "    ports: ['1:1']\n    restart: always\n    x-ployz: {job: before}", []string{
			"compose.yaml:4 services.web.ports compose.bad-value", "compose.yaml:5 services.web.restart compose.bad-value"}},
		{"twice", head + "    image: web:2", []string{"compose.yaml:4 services.web.image compose.syntax"}},
		{"wrong shape", head + "    ports: {a: b}", []string{"compose.yaml:4 services.web.ports compose.bad-value"}},
		{"wrong type", head + "    healthcheck:\n      test: x\n      retries: often", []string{"compose.yaml:6 services.web.healthcheck.retries compose.bad-value"}},
		{"not YAML", "services:\n  web: [\n", []string{"compose.yaml:2  compose.syntax"}},
		{"tab", "services:\n\tweb: x\n", []string{"compose.yaml:2  compose.syntax"}},
		{"two documents", "services: {}\n---\nservices: {}\n", []string{"compose.yaml  compose.syntax"}},
		{"a list", "- a\n", []string{"compose.yaml:1  compose.syntax"}},
		{"empty", "# nothing\n", []string{"compose.yaml  compose.syntax"}},
		{"top x-ployz", head + "x-ployz: {routes: [], retention: {commits: 0, volumes: 7 days, snapshots: 3}}", []string{
			"compose.yaml:4 x-ployz.routes compose.unknown-key", "compose.yaml:4 x-ployz.retention.snapshots compose.unknown-key"}},
		{"retention", head + "x-ployz:\n  retention: {commits: 0, volumes: 7 days}", []string{
			"compose.yaml:5 x-ployz.retention.commits compose.bad-value", "compose.yaml:5 x-ployz.retention.volumes compose.bad-value"}},
		{"retention of nothing", head + "x-ployz: {retention: 5}", []string{"compose.yaml:4 x-ployz.retention compose.bad-value"}},
		{"quiesce values", head + "    volumes: ['db:/a']\n    x-ployz:\n      quiesce:\n        mode: wait\n        before: ''\n        after: []\n        timeout: soon\nvolumes:\n  db:", []string{
			"compose.yaml:7 services.web.x-ployz.quiesce.mode compose.bad-value", "compose.yaml:8 services.web.x-ployz.quiesce.before compose.bad-value",
			"compose.yaml:9 services.web.x-ployz.quiesce.after compose.bad-value", "compose.yaml:10 services.web.x-ployz.quiesce.timeout compose.bad-value"}},
		{"quiesce of a reader", head + "    volumes: ['db:/a:ro']\n    x-ployz: {quiesce: {mode: freeze}}\nvolumes:\n  db:", []string{"compose.yaml:5 services.web.x-ployz.quiesce compose.bad-value"}},
		{"quiesce of a job", head + "    volumes: ['db:/a']\n    x-ployz: {job: branch, quiesce: {mode: freeze}}\nvolumes:\n  db:", []string{"compose.yaml:5 services.web.x-ployz.quiesce compose.bad-value"}},
		{"quiesce of what is stopped", head + "    volumes: ['db:/a']\n    x-ployz: {quiesce: {mode: stop, after: go-on}}\nvolumes:\n  db:", []string{"compose.yaml:5 services.web.x-ployz.quiesce compose.bad-value"}},
		{"branch job with replicas", head + "    x-ployz: {job: {when: branch}}\n    deploy: {replicas: 2}", []string{"compose.yaml:5 services.web.deploy compose.bad-value"}},
		{"misspelt x-ployz", head + "    x-plyoz: {}", []string{"compose.yaml:4 services.web.x-plyoz compose.unknown-key"}},
		{"x-ployz key", head + "    x-ployz:\n      routes:\n        - {hots: a, port: 1}", []string{"compose.yaml:6 services.web.x-ployz.routes[0].hots compose.unknown-key"}},
		{"x-ployz values", head + "    x-ployz:\n      routes:\n        - {host: a, tcp: 5, port: 70000}\n        - {host: b}\n      ready: {tcp: {port: 1}, exec: a}\n      job: sometimes\n      update:\n        drain: 5\n        order: any\n      needs: [nobody]\n      secret_env: {A: b}\n      exports: {a: b}", []string{
			"compose.yaml:6 services.web.x-ployz.routes[0] compose.bad-value",
			"compose.yaml:6 services.web.x-ployz.routes[0].port compose.bad-value",
			"compose.yaml:7 services.web.x-ployz.routes[1].port compose.bad-value",
			"compose.yaml:8 services.web.x-ployz.ready compose.bad-value",
			"compose.yaml:9 services.web.x-ployz.job compose.bad-value",
			"compose.yaml:11 services.web.x-ployz.update.drain compose.bad-value",
			"compose.yaml:12 services.web.x-ployz.update.order compose.bad-value",
			"compose.yaml:13 services.web.x-ployz.needs compose.bad-value",
			"compose.yaml:14 services.web.x-ployz.secret_env.A compose.bad-value",
			"compose.yaml:15 services.web.x-ployz.exports compose.bad-value"}},
		{"other deadline", head + "    x-ployz: {ready: {tcp: {port: 1}, deadline: 5s}}", []string{"compose.yaml:4 services.web.x-ployz.ready.deadline compose.unsupported-key"}},
		{"no base file", head + "    extends: {file: gone.yaml, service: a}", []string{"compose.yaml:4 services.web.extends.file compose.file-missing"}},
		{"no base service", head + "    extends: a", []string{"compose.yaml:4 services.web.extends compose.bad-value"}},
		{"in the base", head + "    extends: {file: base.yaml, service: a}\n-- base.yaml --\nservices:\n  a:\n    image: b\n    build: .\n    dns: 1.1.1.1", []string{
			"base.yaml:4 services.web.build compose.unsupported-key", "base.yaml:5 services.web.dns compose.unsupported-key"}},
		{"in an anchor", "x-base: &base\n  image: a\n  pid: host\nservices:\n  web:\n    <<: *base", []string{"compose.yaml:3 services.web.pid compose.unsupported-key"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := load(t, lay(t, c.file), compose.Options{})
			got := said(err)
			for i := range got {
				got[i] = got[i][strings.LastIndex(got[i], "/")+1:]
			}
			if !sameLines(got, c.want) {
				t.Errorf("said:\n  %s\nwanted:\n  %s\nerror: %v", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "), details(err))
			}
			for _, e := range details(err) {
				if e.Hint == "" && e.Code != api.CodeComposeSyntax {
					t.Errorf("no hint: %v", e)
				}
			}
		})
	}
}

func sameLines(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func details(err error) []*api.Error {
	if err == nil {
		return nil
	}
	e := api.AsError(err)
	if len(e.Details) > 0 {
		return e.Details
	}
	return []*api.Error{e}
}

// Several problems come as one error with all of them, in the order of the file; one comes alone.
func TestTogether(t *testing.T) {
	_, _, err := load(t, lay(t, head+"    build: .\n    restart: x\n    foo: 1\n"), compose.Options{})
	if api.CodeOf(err) != api.CodeComposeInvalid {
		t.Fatalf("%v", err)
	}
	// The misspelt key makes compose-go give up, so that the value is looked at only when it is gone.
	if got := said(err); len(got) != 2 || !strings.Contains(got[0], "build") || !strings.Contains(got[1], "foo") {
		t.Errorf("said %q", got)
	}
	_, _, err = load(t, lay(t, head+"    build: .\n    restart: x\n"), compose.Options{})
	if got := said(err); len(got) != 2 || !strings.Contains(got[1], "restart") {
		t.Errorf("said %q", got)
	}
}

// The whole text of one refusal: thing, place, value seen, reason, next step.
func TestRefusalText(t *testing.T) {
	dir := lay(t, head+"    build: ./src\n")
	t.Chdir(dir)
	_, _, err := compose.Load(t.Context(), compose.Options{Path: "compose.yaml"})
	e := api.AsError(err)
	want := `compose.yaml:4: services.web.build: is not supported (value seen: "./src"): images are not built here (compose.unsupported-key)`
	if e.Error() != want || e.Hint != "build the image and push it: ployzctl image push" {
		t.Errorf("%s\nhint: %s", e, e.Hint)
	}
}

func TestUnreadable(t *testing.T) {
	dir := t.TempDir()
	huge := write(t, dir, "huge.yaml", "# "+strings.Repeat("x", 1<<20))
	for _, path := range []string{dir, filepath.Join(dir, "gone.yaml"), os.DevNull, huge} {
		if _, _, err := load(t, dir, compose.Options{Path: path}); api.CodeOf(err) != api.CodeComposeUnreadable {
			t.Errorf("%s: %v", path, err)
		}
	}
	write(t, dir, "compose.yaml", head)
	write(t, dir, ".env", "not an assignment\n")
	if _, _, err := load(t, dir, compose.Options{Name: "a"}); api.CodeOf(err) != api.CodeComposeSyntax {
		t.Errorf("a bad .env: %v", err)
	}
}

// What never ends is not read, whichever key names it.
func TestDevicesAreNotRead(t *testing.T) {
	for _, body := range []string{
		"    env_file: /dev/zero", "    label_file: /dev/zero", "    extends: {file: /dev/zero, service: a}",
		"    secrets: [s]\nsecrets: {s: {file: /dev/zero}}",
	} {
		if _, _, err := load(t, lay(t, head+body), compose.Options{}); api.CodeOf(err) != api.CodeComposeFile {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// TestBounds: files of few bytes over which compose-go takes minutes or all memory are refused, soon.
func TestBounds(t *testing.T) {
	var laughs strings.Builder
	laughs.WriteString("x-l0: &l0 {k: v}\n")
	for i := range 12 {
		fmt.Fprintf(&laughs, "x-l%d: &l%d [%s]\n", i+1, i+1, strings.Repeat(fmt.Sprintf("*l%d, ", i), 20))
	}
	for name, text := range map[string]string{
		"aliases of aliases":     laughs.String() + head + "    x-ployz: {routes: *l12}\n",
		"a cycle":                "services: &s {web: {image: a, x-a: *s}}",
		"a cycle of merges":      "services:\n  web: &w\n    image: a\n    <<: *w\n",
		"a cycle of environment": head + "    environment: &e\n      A: b\n      <<: *e\n",
		"deep lists":             head + "    x-a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "\n",
		"deep mappings":          head + "    x-a: " + strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000) + "\n",
		"nested variables":       head + "    user: \"" + strings.Repeat("${A:-", 5000) + strings.Repeat("}", 5000) + "\"\n",
		"many variables":         head + "    user: \"" + strings.Repeat("${A:-x}", 20000) + "\"\n",
		"a name of variables":    "name: \"" + strings.Repeat("${A:-x}", 20000) + "\"\n" + head,
		"variables of an option": head + "    ports: [\"" + strings.Repeat("${A:-x}", 20000) + "\"]\n",
		"all ports":              head + "    ports: ['1-65535:1-65535']\n",
		"all ports, and again":   head + "    ports: [" + strings.Repeat("'1-999:1-999', ", 200) + "]\n",
		"extends itself":         head + "    extends: web\n",
		"extends in a circle":    "services: {a: {extends: b, image: x}, b: {extends: a, image: x}}",
	} {
		dir, start := lay(t, text), time.Now()
		_, _, err := load(t, dir, compose.Options{})
		if code := api.CodeOf(err); code == "" || code == api.CodeInternal {
			t.Errorf("%s: it was taken, or refused without a type: %v", name, err)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: it took %s", name, took)
		}
	}
	// What is still allowed is quick too.
	text := head + "    user: \"" + strings.Repeat("${A:-", 32) + strings.Repeat("}", 32) + "\"\n    ports: ['2000-2999:2000-2999']\n"
	start := time.Now()
	if _, _, err := load(t, lay(t, text), compose.Options{}); err != nil || time.Since(start) > 5*time.Second {
		t.Errorf("%s, %v", time.Since(start), err)
	}
}

func TestNamespace(t *testing.T) {
	named := lay(t, "name: ${NS:-shop}\n"+head)
	plain := lay(t, head)
	for _, c := range []struct {
		dir  string
		o    compose.Options
		want string
	}{
		{named, compose.Options{}, "shop"},
		{named, compose.Options{Env: map[string]string{"NS": "stage"}}, "stage"},
		{named, compose.Options{Name: "mine"}, "mine"},
		{plain, compose.Options{}, "shop"}, // the folder's name
		{plain, compose.Options{Env: map[string]string{"COMPOSE_PROJECT_NAME": "other"}}, "shop"},
	} {
		spec, _, err := load(t, c.dir, c.o)
		if err != nil || spec.Namespace != c.want {
			t.Errorf("%+v: namespace %q, %v", c.o, spec.Namespace, err)
		}
	}
	if _, _, err := load(t, plain, compose.Options{Name: "No Good"}); api.CodeOf(err) != api.CodeComposeName {
		t.Errorf("%v", err)
	}
}

func TestContentAndOverrides(t *testing.T) {
	dir := lay(t, "-- a.yaml --\nservices: {web: {image: 'x:2', command: [b]}}\n-- b.yaml --\nservices: {web: {dns: 1.1.1.1}}")
	o := compose.Options{Path: filepath.Join(dir, "stdin"), Content: []byte(head), Overrides: []string{filepath.Join(dir, "a.yaml")}}
	spec, _, err := load(t, dir, o)
	if err != nil || spec.Services["web"].Image != "x:2" {
		t.Errorf("%+v, %v", spec, err)
	}
	o.Overrides = append(o.Overrides, filepath.Join(dir, "b.yaml"))
	if _, _, err = load(t, dir, o); len(said(err)) != 1 || !strings.HasSuffix(said(err)[0], "b.yaml:1 services.web.dns compose.unsupported-key") {
		t.Errorf("%q", said(err))
	}
}

func TestProfiles(t *testing.T) {
	dir := lay(t, head+"  debug: {image: d, profiles: [debug]}\n")
	for _, c := range []struct {
		o    compose.Options
		want int
	}{
		{compose.Options{}, 1},
		{compose.Options{Profiles: []string{"debug"}}, 2},
		{compose.Options{Env: map[string]string{"COMPOSE_PROFILES": "a, debug"}}, 2},
		{compose.Options{Profiles: []string{"other"}, Env: map[string]string{"COMPOSE_PROFILES": "debug"}}, 1},
	} {
		if spec, _, err := load(t, dir, c.o); err != nil || len(spec.Services) != c.want {
			t.Errorf("%+v: %d services, %v", c.o, len(spec.Services), err)
		}
	}
}

// Every notable thing that has no effect is said.
func TestNotes(t *testing.T) {
	_, notes, err := load(t, lay(t, "version: '3'\n"+head+"    expose: [80]\n    environment: [GONE]\n    healthcheck: {test: x}\n    x-ployz: {ready: {tcp: {port: 1}}}\nsecrets: {s: {file: gone}}\n"),
		compose.Options{Env: map[string]string{"COMPOSE_FILE": "x"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range notes {
		got = append(got, n.Place[strings.LastIndex(n.Place, "/")+1:])
	}
	want := []string{"compose.yaml", "compose.yaml:1: version", "compose.yaml:5: services.web.expose", "compose.yaml:6: services.web.environment.GONE",
		"compose.yaml:7: services.web.healthcheck", "compose.yaml:9: secrets.s"}
	if !sameLines(got, want) {
		t.Errorf("notes at %q", got)
	}
}
