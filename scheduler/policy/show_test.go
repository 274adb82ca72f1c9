package policy

import (
	"strings"
	"testing"
)

func TestYAML_TellsEveryValueWithItsOrigin(t *testing.T) {
	set := parsed(t, `default: {maxAttempts: 7}
connection_pool:
  maxDelay: 90s
  rules: [{codes: ["401"], message: "a: #b", class: retryable, limit: once}]
  operations:
    acquire_connection:
      target: "null"
      targets: ["pool.>", "*"]
      accounts: {"12": {priority: high}}
`)
	got, err := set.YAML("connection_pool")
	if err != nil {
		t.Fatal(err)
	}
	_, services, found := strings.Cut(string(got), "connection_pool:\n")
	if !found || !strings.HasPrefix(string(got), "default:\n  maxAttempts: 7 # p.yaml:1:11\n  baseDelay: 1s # built-in\n") {
		t.Fatalf("the YAML does not begin with the default:\n%s", got)
	}
	const want = `  maxAttempts: 5 # built-in
  baseDelay: 500ms # built-in
  maxDelay: 1m30s # p.yaml:3:3
  backoffStrategy: adaptive # built-in
  jitterType: equal # built-in
  enableResourceAwareRetry: true # built-in
  maxConcurrentRetries: 20 # built-in
  retryBudgetPerMinute: 200 # built-in
  rules:
  - name: connection_pool.rules[0] # p.yaml:4:11
    codes: ['401']
    message: 'a: #b'
    class: retryable
    limit: 1
  operations:
    acquire_connection:
      target: 'null' # p.yaml:7:7
      targets: [pool.>, '*'] # p.yaml:8:7
      accounts:
        '12':
          priority: high # p.yaml:9:25
`
	if services != want {
		t.Errorf("connection_pool is written as\n%s\nwant\n%s", services, want)
	}
}

func TestYAML_OfAllServicesReadsBackAsTheSamePolicies(t *testing.T) {
	set := parsed(t, thousandPolicies())
	written, err := set.YAML()
	if err != nil {
		t.Fatal(err)
	}
	again := parsed(t, string(written))
	for sc := range set.layers {
		q := Query{Service: sc.service, Operation: sc.operation, Account: sc.account, Campaign: sc.campaign}
		p, p2 := set.Resolve(q), again.Resolve(q)
		if !alike(&p, &p2) {
			t.Fatalf("%+v resolves to\n%+v, want\n%+v", q, p2, p)
		}
	}
	twice, err := again.YAML()
	if err != nil {
		t.Fatal(err)
	}
	if a, b := withoutComments(written), withoutComments(twice); a != b {
		t.Errorf("written again, the policies differ:\n%.2000s\nwant\n%.2000s", b, a)
	}
}

func withoutComments(yaml []byte) string {
	lines := strings.Split(string(yaml), "\n")
	for i := range lines {
		lines[i], _, _ = strings.Cut(lines[i], " # ")
	}
	return strings.Join(lines, "\n")
}

func TestYAML_FileNameCannotBreakOutOfAComment(t *testing.T) {
	set, err := Parse("p.yaml\nbilling: {maxAttempts: 9}\n#", []byte("billing: {maxAttempts: 3}"))
	if err != nil {
		t.Fatal(err)
	}
	written, err := set.YAML("billing")
	if err != nil {
		t.Fatal(err)
	}
	if got := parsed(t, string(written)).Resolve(Query{Service: "billing"}).MaxAttempts; got != 3 {
		t.Errorf("written and read back, billing has %d attempts, want 3", got)
	}
}
