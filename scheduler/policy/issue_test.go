package policy

import (
	"strings"
	"testing"
)

// TestParse_ReportsEveryIssue pins the exact message for each faulty file: where,
// what, and a hint.
func TestParse_ReportsEveryIssue(t *testing.T) {
	for _, tc := range []struct{ name, src, want string }{
		{"a misspelt key", "billing:\n  maxAttemps: 3\n", `p.yaml:2:3: billing.maxAttemps: no such key; did you mean maxAttempts?`},
		{"a key with underscores", "billing: {max_attempts: 3}", `p.yaml:1:11: billing.max_attempts: no such key; did you mean maxAttempts?`},
		{"a key of another retry policy", "billing: {maxRetries: 3}", `p.yaml:1:11: billing.maxRetries: no such key; did you mean maxAttempts, which counts the first attempt as well?`},
		{"a key that nothing is like", "billing: {colour: red}", `p.yaml:1:11: billing.colour: no such key`},
		{"no attempt at all", "billing:\n  maxAttempts: 0\n", `p.yaml:2:16: billing.maxAttempts: "0" is no whole number of at least 1`},
		{"a negative count", "billing: {retryBudgetPerMinute: -1}", `p.yaml:1:33: billing.retryBudgetPerMinute: "-1" is no whole number of at least 0`},
		{"a count with a fraction", "billing: {maxAttempts: 2.5}", `p.yaml:1:24: billing.maxAttempts: "2.5" is no whole number of at least 1`},
		{"a count written as a decimal", "billing: {maxAttempts: 3.0}", `p.yaml:1:24: billing.maxAttempts: "3.0" is no whole number of at least 1; did you mean 3?`},
		{"a count with a thousands separator", "billing: {retryBudgetPerHour: 10_000}", `p.yaml:1:31: billing.retryBudgetPerHour: "10_000" is no whole number of at least 0; did you mean 10000?`},
		{"a count over 31 bits", "billing: {maxAttempts: 2147483648}", `p.yaml:1:24: billing.maxAttempts: "2147483648" is more than 2147483647`},
		{"a count over 64 bits", "billing: {maxAttempts: 99999999999999999999}", `p.yaml:1:24: billing.maxAttempts: "99999999999999999999" is more than 2147483647`},
		{"a learning window longer than what is remembered", "billing: {learningWindow: 500}", `p.yaml:1:27: billing.learningWindow: "500" is no whole number from 1 to 100`},
		{"no half-open success", "billing: {halfOpenSuccesses: 0}", `p.yaml:1:30: billing.halfOpenSuccesses: "0" is no whole number of at least 1`},
		{"no half-open request", "billing: {halfOpenMaxRequests: 0}", `p.yaml:1:32: billing.halfOpenMaxRequests: "0" is no whole number of at least 1`},
		{"a multiplier that shrinks delays", "billing: {multiplier: 0.5}", `p.yaml:1:23: billing.multiplier: "0.5" is no number from 1 to 100`},
		{"a multiplier out of range", "billing: {multiplier: 1000}", `p.yaml:1:23: billing.multiplier: "1000" is no number from 1 to 100`},
		{"a factor that is no number", "billing: {adaptationFactor: .nan}", `p.yaml:1:29: billing.adaptationFactor: ".nan" is no number from 0 to 10`},
		{"an endless factor", "billing: {adaptationFactor: Inf}", `p.yaml:1:29: billing.adaptationFactor: "Inf" is no number from 0 to 10`},
		{"a rate in percent", "billing: {successRateThreshold: 70%}", `p.yaml:1:33: billing.successRateThreshold: "70%" is no number from 0 to 1; did you mean 0.7?`},
		{"a rate over 1", "billing: {successRateThreshold: 70}", `p.yaml:1:33: billing.successRateThreshold: "70" is no number from 0 to 1; did you mean 0.7?`},
		{"a rate with a comma", "billing: {circuitBreakerFailureRate: \"0,5\"}", `p.yaml:1:38: billing.circuitBreakerFailureRate: "0,5" is no number from 0 to 1; did you mean 0.5?`},
		{"yes for true", "billing: {enableCircuitBreaker: yes}", `p.yaml:1:33: billing.enableCircuitBreaker: "yes" is neither true nor false; did you mean true?`},
		{"a truth that is none", "billing: {enableCircuitBreaker: maybe}", `p.yaml:1:33: billing.enableCircuitBreaker: "maybe" is neither true nor false`},
		{"a duration that is none", "billing: {baseDelay: soon}", `p.yaml:1:22: billing.baseDelay: "soon" is no duration; write milliseconds such as 1500, or a duration such as 1.5s or 2m`},
		{"seconds without their unit", "billing: {baseDelay: 1.5}", `p.yaml:1:22: billing.baseDelay: "1.5" is no whole number of milliseconds and has no unit; did you mean 1500 or 1.5s?`},
		{"a unit in words", "billing: {maxDelay: 30 seconds}", `p.yaml:1:21: billing.maxDelay: "30 seconds" is no duration; did you mean 30s?`},
		{"days", "billing: {maxElapsedTime: 2d}", `p.yaml:1:27: billing.maxElapsedTime: "2d" is no duration; did you mean 48h?`},
		{"a duration with spaces", "billing: {maxDelay: 1m 30s}", `p.yaml:1:21: billing.maxDelay: "1m 30s" is no duration; did you mean 1m30s?`},
		{"milliseconds with underscores", "billing: {baseDelay: 1_000}", `p.yaml:1:22: billing.baseDelay: "1_000" is no whole number of milliseconds, nor a duration; did you mean 1000?`},
		{"milliseconds with a comma", "billing: {baseDelay: \"1,000\"}", `p.yaml:1:22: billing.baseDelay: "1,000" is no whole number of milliseconds, nor a duration; did you mean 1000?`},
		{"milliseconds with spaces", "billing: {baseDelay: 1 500 000}", `p.yaml:1:22: billing.baseDelay: "1 500 000" is no whole number of milliseconds, nor a duration; did you mean 1500000?`},
		{"grouped digits with a unit", "billing: {baseDelay: \"1,500ms\"}", `p.yaml:1:22: billing.baseDelay: "1,500ms" is no duration; did you mean 1.5s?`},
		{"underscores with a unit in words", "billing: {baseDelay: 1_500 msecs}", `p.yaml:1:22: billing.baseDelay: "1_500 msecs" is no duration; did you mean 1.5s?`},
		{"a decimal comma", "billing: {baseDelay: \"1,5s\"}", `p.yaml:1:22: billing.baseDelay: "1,5s" is no duration; did you mean 1.5s?`},
		{"a decimal comma without a unit", "billing: {baseDelay: \"1,5\"}", `p.yaml:1:22: billing.baseDelay: "1,5" is no whole number of milliseconds and has no unit; did you mean 1500 or 1.5s?`},
		{"a count with a thousands comma", "billing: {retryBudgetPerHour: \"10,000\"}", `p.yaml:1:31: billing.retryBudgetPerHour: "10,000" is no whole number of at least 0; did you mean 10000?`},
		{"a count with a decimal comma", "billing: {maxAttempts: \"1,5\"}", `p.yaml:1:24: billing.maxAttempts: "1,5" is no whole number of at least 1`},
		{"a factor with underscores", "billing: {multiplier: 1_0}", `p.yaml:1:23: billing.multiplier: "1_0" is no number from 1 to 100; did you mean 10?`},
		{"a factor with a decimal comma", "billing: {multiplier: \"1,5\"}", `p.yaml:1:23: billing.multiplier: "1,5" is no number from 1 to 100; did you mean 1.5?`},
		{"an unknown unit", "billing: {maxDelay: 3 fortnights}", `p.yaml:1:21: billing.maxDelay: "3 fortnights" is no duration; write milliseconds such as 1500, or a duration such as 1.5s or 2m`},
		{"a negative duration", "billing: {baseDelay: -5s}", `p.yaml:1:22: billing.baseDelay: "-5s" is below 0`},
		{"a negative number of milliseconds", "billing: {baseDelay: -5}", `p.yaml:1:22: billing.baseDelay: "-5" is below 0`},
		{"a duration over a year", "billing: {maxDelay: 8761h}", `p.yaml:1:21: billing.maxDelay: "8761h" is longer than a year`},
		{"a duration over 64 bits of nanoseconds", "billing: {maxDelay: 9999999999h}", `p.yaml:1:21: billing.maxDelay: "9999999999h" is longer than a year`},
		{"milliseconds over 64 bits", "billing: {maxDelay: 99999999999999999999}", `p.yaml:1:21: billing.maxDelay: "99999999999999999999" is longer than a year`},
		{"an attempt without time", "billing: {attemptTimeout: 0}", `p.yaml:1:27: billing.attemptTimeout: "0" is not longer than 0`},
		{"a misspelt strategy", "billing: {backoffStrategy: expnential}", `p.yaml:1:28: billing.backoffStrategy: "expnential" is not exponential, fixed, linear or adaptive; did you mean exponential?`},
		{"an unknown jitter", "billing: {jitterType: random}", `p.yaml:1:23: billing.jitterType: "random" is not none, full, equal or decorrelated`},
		{"an unknown priority", "billing: {priority: urgent}", `p.yaml:1:21: billing.priority: "urgent" is not critical, high, normal or low`},
		{"a base over the cap", "billing:\n  baseDelay: 2s\n  maxDelay: 1s\n", `p.yaml:3:3: billing.maxDelay: baseDelay 2s is longer than maxDelay 1s`},
		{"a base over the cap of a layer below", "billing: {maxDelay: 10s, operations: {charge: {baseDelay: 1m}}}", `p.yaml:1:48: billing.operations.charge.baseDelay: baseDelay 1m is longer than maxDelay 10s (maxDelay is from billing, p.yaml:1:11)`},
		{"a cap under the built-in base", "connection_pool: {maxDelay: 100ms}", `p.yaml:1:19: connection_pool.maxDelay: baseDelay 500ms is longer than maxDelay 100ms`},
		{"an account's base over the service's cap", "connection_pool: {accounts: {premium_1: {baseDelay: 1m}}}", `p.yaml:1:42: connection_pool.accounts.premium_1.baseDelay: baseDelay 1m is longer than maxDelay 10s (maxDelay is from connection_pool, built-in)`},
		{"a time that is over before the first delay", "billing: {jitterType: none, maxElapsedTime: 400}", `p.yaml:1:29: billing.maxElapsedTime: maxElapsedTime 400ms is over before the first delay of at least 500ms (baseDelay is from default, built-in); no operation would be tried again; write maxAttempts: 1 if that is meant`},
		{"a budget per minute over that per hour", "billing: {retryBudgetPerMinute: 100, retryBudgetPerHour: 50}", `p.yaml:1:11: billing.retryBudgetPerMinute: retryBudgetPerMinute 100 is more than retryBudgetPerHour 50`},
		{"a list for a single value", "billing: {maxAttempts: [3]}", `p.yaml:1:24: billing.maxAttempts: is not a single value`},
		{"a mapping for a single value", "billing: {priority: {high: true}}", `p.yaml:1:21: billing.priority: is not a single value`},
		{"a key without a value", "billing:\n  maxAttempts:\n  baseDelay: 1s\n", `p.yaml:2:15: billing.maxAttempts: has no value`},
		{"a single value for a list", "billing: {targets: billing.>}", `p.yaml:1:20: billing.targets: is not a list; write [billing.>]`},
		{"a mapping for a list", "billing: {targets: {a: b}}", `p.yaml:1:20: billing.targets: is not a list`},
		{"a target with a wildcard", "billing: {target: billing.*}", `p.yaml:1:19: billing.target: target "billing.*" has a wildcard`},
		{"a target of the server", "billing: {target: $SYS.REQ}", `p.yaml:1:19: billing.target: target "$SYS.REQ" belongs to the server; subjects that start with $ are never targets`},
		{"a target with an unknown placeholder", "billing: {target: \"{service}.{op}\"}", `p.yaml:1:19: billing.target: "{service}.{op}" has a placeholder that is neither {service} nor {operation}`},
		{"a target that targets leaves out", "billing: {target: pay.now, targets: [billing.>]}", `p.yaml:1:11: billing.target: target pay.now is not among targets`},
		{"a pattern with an empty token", "billing: {targets: [billing..charge]}", `p.yaml:1:21: billing.targets[0]: "billing..charge" has an empty token`},
		{"a pattern that goes on after its end", "billing: {targets: [\"billing.>.charge\"]}", `p.yaml:1:21: billing.targets[0]: "billing.>.charge" has > before its end; * stands for one token, > for all that follow`},
		{"a pattern with a wildcard within a token", "billing: {targets: [\"billing.ch*\"]}", `p.yaml:1:21: billing.targets[0]: "billing.ch*" has a wildcard within a token; * and > stand for whole tokens`},
		{"a pattern that matches only inboxes", "billing: {targets: [\"_INBOX.>\"]}", `p.yaml:1:21: billing.targets[0]: "_INBOX.>" can match no target: target "_INBOX.work" is an inbox; inboxes are never targets`},
		{"a service that depends on itself", "billing: {dependsOn: [ledger, billing]}", `p.yaml:1:11: billing.dependsOn: billing would need itself by billing`},
		{"a key that depends on its service", "billing: {operations: {charge: {dependsOn: [billing]}}}", `p.yaml:1:33: billing.operations.charge.dependsOn: billing:charge would need itself by billing`},
		{"services that depend on each other", "billing: {dependsOn: [ledger]}\nledger: {dependsOn: [\"billing:charge\"]}\n", `p.yaml:2:10: ledger.dependsOn: goes in a circle: ledger needs billing:charge needs ledger`},
		{"a dependency that is no service", "billing: {dependsOn: [\"led ger\"]}", `p.yaml:1:23: billing.dependsOn[0]: "led ger" is no service and no service:operation: "led ger" has the character ' '; only ASCII letters, digits, dashes and underscores are allowed`},
		{"a dependency of everything", "default: {dependsOn: [ledger]}", `p.yaml:1:11: default.dependsOn: cannot stand under default; what every service needs would need itself`},
		{"rules that are no list", "billing: {rules: {codes: [E1]}}", `p.yaml:1:18: billing.rules: is not a list of rules`},
		{"a rule without a condition", "billing: {rules: [{class: retryable}]}", `p.yaml:1:19: billing.rules[0]: states neither codes nor message`},
		{"a rule without a class", "billing: {rules: [{codes: [E1]}]}", `p.yaml:1:19: billing.rules[0]: has no class; write class: retryable or class: not_retryable`},
		{"a rule of an unknown class", "billing: {rules: [{codes: [E1], class: retriable}]}", `p.yaml:1:40: billing.rules[0].class: "retriable" is not retryable or not_retryable; did you mean retryable?`},
		{"a rule with an unknown key", "billing: {rules: [{codes: [E1], class: retryable, limt: 1}]}", `p.yaml:1:57: billing.rules[0].limt: no such key; did you mean limit?`},
		{"a rule with a limit in words", "billing: {rules: [{codes: [E1], class: retryable, limit: twice}]}", `p.yaml:1:58: billing.rules[0].limit: "twice" is no whole number of at least 0, nor once`},
		{"a limit of what is not retryable", "billing: {rules: [{codes: [E1], class: not_retryable, limit: 1}]}", `p.yaml:1:19: billing.rules[0]: limits what is not retryable; a limit bounds how often a rule may decide retryable`},
		{"a rule without codes", "billing: {rules: [{codes: [], class: retryable}]}", `p.yaml:1:27: billing.rules[0].codes: is empty; leave it out to match any code`},
		{"a code that says nothing", "billing: {rules: [{codes: [\"-\"], class: retryable}]}", `p.yaml:1:28: billing.rules[0].codes[0]: "-" is no code`},
		{"a rule that matches every message", "billing: {rules: [{message: \"**\", class: retryable}]}", `p.yaml:1:29: billing.rules[0].message: "**" matches every message; leave it out`},
		{"rules of one name that differ", "billing: {rules: [{name: x, codes: [A], class: retryable}, {name: x, codes: [B], class: not_retryable}]}", `p.yaml:1:60: billing.rules[1]: bears the name "x" of a rule with another class or limit`},
		{"rules of an account", "billing: {accounts: {a: {rules: [{codes: [E1], class: retryable}]}}}", `p.yaml:1:26: billing.accounts.a.rules: belongs to all operations of a service and operation type together and cannot differ by account or campaign; set it for billing`},
		{"a breaker of an account's own", "session_manager: {accounts: {a: {circuitBreakerThreshold: 9}}}", `p.yaml:1:34: session_manager.accounts.a.circuitBreakerThreshold: belongs to all operations of a service and operation type together and cannot differ by account or campaign; set it for session_manager`},
		{"a service with a dot", "billing.eu: {maxAttempts: 3}", `p.yaml:1:1: "billing.eu": the service "billing.eu" has the character '.'; only ASCII letters, digits, dashes and underscores are allowed`},
		{"a service with an accent", "café: {maxAttempts: 3}", `p.yaml:1:1: café: the service "café" has the character 'é'; only ASCII letters, digits, dashes and underscores are allowed`},
		{"an operation type with a space", "billing: {operations: {\"charge card\": {maxAttempts: 3}}}", `p.yaml:1:24: billing.operations."charge card": the operation type "charge card" has the character ' '; only ASCII letters, digits, dashes and underscores are allowed`},
		{"an account without a name", "billing: {accounts: {\"\": {maxAttempts: 3}}}", `p.yaml:1:22: billing.accounts."": the account is empty`},
		{"operations of the default", "default: {operations: {charge: {maxAttempts: 3}}}", `p.yaml:1:11: default.operations: cannot stand here; operations stand under a service`},
		{"operations within an operation", "billing: {operations: {charge: {operations: {x: {maxAttempts: 3}}}}}", `p.yaml:1:33: billing.operations.charge.operations: cannot stand here; operations stand under a service itself`},
		{"an account within a campaign", "billing: {campaigns: {c: {accounts: {a: {maxAttempts: 3}}}}}", `p.yaml:1:27: billing.campaigns.c.accounts: cannot stand here; campaigns may stand under an account, and nothing else within another`},
		{"accounts at the top level", "accounts: {premium_1: {maxAttempts: 3}}", `p.yaml:1:12: accounts.premium_1: no such key; accounts of all services stand under default`},
		{"a policy's key at the top level", "billing:\nmaxAttempts: 3\n", "p.yaml:1:9: billing: has nothing under it\np.yaml:2:1: maxAttempts: is a key of a policy and stands at the top level; indent it under default or a service"},
		{"a service that is a list", "billing: [1, 2]", `p.yaml:1:10: billing: is not a mapping of keys to values`},
		{"a file that is a list", "- billing", `p.yaml:1:1: is not a mapping of keys to values`},
		{"a file that is a text", "billing", `p.yaml:1:1: is not a mapping of keys to values`},
		{"another serviceType than the name", "billing: {serviceType: shipping, maxAttempts: 3}", `p.yaml:1:24: billing.serviceType: "shipping" differs from billing, under which it stands`},
		{"a configuration without serviceType", "premium: {accountId: premium_1, maxAttempts: 3}", `p.yaml:1:1: premium: has no serviceType; what bears operationType, accountId or campaignId at the top level needs it`},
		{"an accountId where there is no account", "billing: {operations: {charge: {accountId: premium_1}}}", `p.yaml:1:33: billing.operations.charge.accountId: has no meaning here`},
		{"one match set twice", "billing: {accounts: {a: {maxAttempts: 3}}}\nagain: {serviceType: billing, accountId: a, maxAttempts: 4}\n", `p.yaml:2:45: again.maxAttempts: is set for the same operations on line 1 already`},
		{"a service that stands there twice", "billing: {maxAttempts: 3}\nshipping: {}\nbilling: {maxAttempts: 4}\n", `p.yaml:3:1: billing: stands on line 1 already`},
		{"a key that stands there twice", "billing:\n  maxAttempts: 3\n  maxAttempts: 4\n", `p.yaml:3:3: billing.maxAttempts: stands on line 2 already`},
		{"anchors and aliases", "billing: &b {maxAttempts: 3}\nshipping: *b\n", "p.yaml:1:10: billing: has an anchor; policy files have none; what services share stands under default\np.yaml:2:11: shipping: is an alias; policy files have none; what services share stands under default"},
		{"an alias to itself", "billing: &b\n  operations: *b\n", "p.yaml:1:10: billing: has an anchor; policy files have none; what services share stands under default\np.yaml:2:15: billing.operations: is an alias; policy files have none; what services share stands under default"},
		{"a merge key", "billing:\n  <<: {maxAttempts: 3}\n", `p.yaml:2:3: billing: has the merge key <<; policy files have none; what services share stands under default`},
		{"a tag", "billing: {maxAttempts: !!int 3}", `p.yaml:1:24: billing.maxAttempts: has the tag !!int; policy files have none`},
		{"a key that is a list", "? [billing]\n: {maxAttempts: 3}\n", `p.yaml:1:3: has a key that is no text`},
		{"two documents", "billing: {maxAttempts: 3}\n---\nshipping: {maxAttempts: 3}\n", `p.yaml:2:1: a second document begins; a policy file is one document`},
		{"a tab for indentation", "billing:\n\tmaxAttempts: 3\n", `p.yaml:2:1: is not valid YAML: the line begins with a tab; indent with spaces`},
		{"a bracket that is not closed", "billing: {maxAttempts: 3", `p.yaml:2:1: is not valid YAML: did not find expected ',' or '}' while parsing a flow mapping`},
		{"a text that is not closed", "billing:\n  target: \"billing\n", `p.yaml:3:1: is not valid YAML: found unexpected end of stream while scanning a quoted scalar`},
		{"two colons on a line", "billing: maxAttempts: 3", `p.yaml:1:21: is not valid YAML: mapping values are not allowed in this context`},
		{"an unknown anchor", "billing: *nothing", `p.yaml:1:10: is not valid YAML: unknown anchor 'nothing' referenced`},
		{"a byte that is no UTF-8", "billing:\n  target: caf\xe9\n", `p.yaml:2:14: has the byte 0xe9, which is not UTF-8`},
		{"a file in UTF-16", "\xff\xfeb\x00", `p.yaml:1:1: has the byte 0xff, which is not UTF-8`},
		{"a control character", "billing:\n  target: a\x00b\n", `p.yaml:2:12: has the control character U+0000`},
		{"an unknown version of YAML", "%YAML 9.9\n---\nbilling: {maxAttempts: 3}\n", `p.yaml:1:1: is not valid YAML: found incompatible YAML document`},
		{"a default that reaches several services", "default: {baseDelay: 10m}\nbilling: {}\nshipping: {maxAttempts: 3}\n", `p.yaml:1:11: default.baseDelay: baseDelay 10m is longer than maxDelay 5m`},
		{"a circle through three services", "a: {dependsOn: [b]}\nb: {operations: {x: {dependsOn: [\"c:y\"]}}}\nc: {dependsOn: [a]}\n", `p.yaml:1:5: a.dependsOn: goes in a circle: a needs b needs c:y needs a`},
		{
			"a circle of twelve services",
			"s00: {dependsOn: [s01]}\ns01: {dependsOn: [s02]}\ns02: {dependsOn: [s03]}\ns03: {dependsOn: [s04]}\ns04: {dependsOn: [s05]}\ns05: {dependsOn: [s06]}\n" +
				"s06: {dependsOn: [s07]}\ns07: {dependsOn: [s08]}\ns08: {dependsOn: [s09]}\ns09: {dependsOn: [s10]}\ns10: {dependsOn: [s11]}\ns11: {dependsOn: [s00]}\n",
			`p.yaml:1:7: s00.dependsOn: goes in a circle: s00 needs s01 needs s02 needs s03 needs s04 needs s05 needs s06 needs s07 needs s08 needs s09 needs (2 more) needs s00`,
		},
		{"several issues at once", "billing:\n  maxAttempts: 0\n  operations:\n    charge: {jitter: full}\nship.ping: {}\nlast:\n  multiplier: x\n", "p.yaml:2:16: billing.maxAttempts: \"0\" is no whole number of at least 1\np.yaml:4:14: billing.operations.charge.jitter: no such key; did you mean jitterType?\np.yaml:5:1: \"ship.ping\": the service \"ship.ping\" has the character '.'; only ASCII letters, digits, dashes and underscores are allowed\np.yaml:7:15: last.multiplier: \"x\" is no number from 1 to 100"},
		{"a file too deep", strings.Repeat("[", 100), `p.yaml:1:33: is not valid YAML: exceeded max depth of 32 while increasing flow level`},
		{"a file that is too large", strings.Repeat("# some comment\n", 80000), `p.yaml: is larger than the 1048576 bytes allowed`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			set, err := Parse("p.yaml", []byte(tc.src))
			switch {
			case err == nil:
				t.Errorf("the file was accepted, want the issue %s\n%.300s", tc.want, tc.src)
			case set != nil:
				t.Errorf("a set came with the issue %v", err)
			case err.Error() != tc.want:
				t.Errorf("got the issue\n%s\nwant\n%s", err, tc.want)
			}
		})
	}
}

func TestIssues_BeyondAHundredAreCounted(t *testing.T) {
	_, err := Parse("p.yaml", []byte("billing:\n"+strings.Repeat("  maxAttempts: 3\n", 251)))
	issues := Issues(err)
	if len(issues) != 101 {
		t.Fatalf("250 issues were listed as %d, want the first 100 and a last one", len(issues))
	}
	if got, want := issues[100].Error(), "p.yaml: faults left out here: 150"; got != want {
		t.Errorf("the last issue is %q, want %q", got, want)
	}
	for i := 1; i < 100; i++ {
		if issues[i].Line < issues[i-1].Line {
			t.Errorf("issue %d is on line %d, after one on line %d; want them in the order of the file", i, issues[i].Line, issues[i-1].Line)
		}
	}
}

func TestIssues_SayEverythingApart(t *testing.T) {
	_, err := Parse("p.yaml", []byte("billing:\n  maxAttemps: 3\n"))
	issues := Issues(err)
	want := Issue{File: "p.yaml", Line: 2, Column: 3, Key: "billing.maxAttemps", Problem: "no such key", Hint: "did you mean maxAttempts?"}
	if len(issues) != 1 || *issues[0] != want {
		t.Errorf("the issues are %+v, want only %+v", issues, want)
	}
}

func TestParse_BoundsWhatAFileHolds(t *testing.T) {
	rule := func(what string) string { return "billing: {rules: [{class: retryable, " + what + "}]}" }
	for name, tc := range map[string]struct{ src, want string }{
		"rules": {
			"billing: {rules: [" + strings.Repeat("{codes: [E1], class: retryable}, ", 51) + "]}",
			`p.yaml:1:18: billing.rules: has 51 rules, more than the 50 allowed`,
		},
		"codes of a rule": {
			rule("codes: [" + strings.Repeat("E1, ", 51) + "]"),
			`p.yaml:1:45: billing.rules[0].codes: has 51 codes, more than the 50 allowed`,
		},
		"the length of a code": {
			rule("codes: [" + strings.Repeat("E", 65) + "]"),
			`p.yaml:1:46: billing.rules[0].codes[0]: "EEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE…" has 65 bytes, more than the 64 allowed`,
		},
		"the length of a message": {
			rule("message: " + strings.Repeat("m", 257)),
			`p.yaml:1:47: billing.rules[0].message: has 257 bytes, more than the 256 allowed`,
		},
		"the length of a rule's name": {
			rule("codes: [E1], name: " + strings.Repeat("n", 129)),
			`p.yaml:1:57: billing.rules[0].name: "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn…" is no line of at most 128 bytes`,
		},
		"a rule's name to one line": {
			rule(`codes: [E1], name: "a\nb"`),
			`p.yaml:1:57: billing.rules[0].name: "a\nb" is no line of at most 128 bytes`,
		},
		"a rule's service to names": {
			rule(`codes: [E1], service: a.b`),
			`p.yaml:1:60: billing.rules[0].service: the service "a.b" has the character '.'; only ASCII letters, digits, dashes and underscores are allowed`,
		},
		"the length of an account's id": {
			"billing: {accounts: {? " + strings.Repeat("a", 1025) + " : {maxAttempts: 3}}}",
			`p.yaml:1:24: billing.accounts."aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…": the account has 1025 bytes, more than the 1024 allowed`,
		},
		"a selector to a single value": {
			"billing: {serviceType: [billing], accountId: {}}",
			"p.yaml:1:24: billing.serviceType: is not a single value\np.yaml:1:46: billing.accountId: is not a single value",
		},
		"lists to no aliases": {
			"billing: {targets: *a, rules: *a, dependsOn: [*a], maxAttempts: &a 3}",
			`p.yaml:1:20: is not valid YAML: unknown anchor 'a' referenced`,
		},
		"lists to no aliases that are known": {
			"billing: {maxAttempts: &a 3, targets: *a, rules: *a, dependsOn: [*a]}",
			"p.yaml:1:24: billing.maxAttempts: has an anchor; policy files have none; what services share stands under default\n" +
				"p.yaml:1:39: billing.targets: is an alias; policy files have none; what services share stands under default\n" +
				"p.yaml:1:50: billing.rules: is an alias; policy files have none; what services share stands under default\n" +
				"p.yaml:1:66: billing.dependsOn[0]: is an alias; policy files have none; what services share stands under default",
		},
	} {
		_, err := Parse("p.yaml", []byte(tc.src))
		if err == nil || err.Error() != tc.want {
			t.Errorf("%s: got the issue\n%v\nwant\n%s", name, err, tc.want)
		}
	}
}
