package demo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
)

const (
	// madeUpPayloads is how many payloads are made up.
	madeUpPayloads = 200
	// mostText bounds the longest text of a payload, in words.
	mostText = 4000
)

// madeUpEvents are the events of made-up payloads.
var madeUpEvents = []string{
	"push", "pull_request", "check_run", "workflow_run", "release", "issues", "issue_comment", "discussion", "star", "fork", "member",
	"security_advisory",
}

// madeUpWords are the words of made-up texts: some need more than a byte a character, or an escape.
var madeUpWords = []string{
	"the", "webhook", "fails", "again", "because", "naïve", "Zürich", "东京", "emoji 🚀", `"quoted"`, `back\slash`, "<b>&amp;</b>", "line\nbreak", "",
}

// madeUp returns payloads of various shapes and of 50 bytes to some 50 KB. The same seed gives the
// same ones.
func madeUp(seed uint64) []payload {
	random := rand.New(rand.NewPCG(seed, 2))
	out := make([]payload, madeUpPayloads)
	for i := range out {
		event := madeUpEvents[i%len(madeUpEvents)]
		body := map[string]any{
			"action": []string{"created", "edited", "deleted"}[random.IntN(3)],
			"number": random.Int64(),
			"sender": map[string]any{"login": fmt.Sprintf("user%d", random.IntN(1000)), "site_admin": random.IntN(2) == 0},
			event:    madeUpValue(random, 3),
		}
		if random.IntN(3) > 0 {
			// Most are short, a few are long.
			share := random.Float64()
			body["body"] = madeUpText(random, int(mostText*share*share*share))
		}
		data, err := json.Marshal(body)
		if err != nil {
			panic(fmt.Sprintf("a map of plain values cannot be encoded: %v", err))
		}
		out[i] = payload{event, data}
	}
	return out
}

// madeUpValue returns any JSON value, nested up to a depth.
func madeUpValue(random *rand.Rand, depth int) any {
	n := random.IntN(6)
	if depth == 0 {
		n = random.IntN(4)
	}
	switch n {
	case 0:
		return nil
	case 1:
		return random.NormFloat64() * 1e6
	case 2:
		return random.IntN(2) == 0
	case 3:
		return madeUpText(random, random.IntN(8))
	case 4:
		list := make([]any, random.IntN(5))
		for i := range list {
			list[i] = madeUpValue(random, depth-1)
		}
		return list
	}
	object := make(map[string]any)
	for i := range random.IntN(5) {
		object[fmt.Sprintf("field_%d", i)] = madeUpValue(random, depth-1)
	}
	return object
}

func madeUpText(random *rand.Rand, words int) string {
	text := make([]string, words)
	for i := range text {
		text[i] = madeUpWords[random.IntN(len(madeUpWords))]
	}
	return strings.Join(text, " ")
}
