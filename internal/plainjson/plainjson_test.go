package plainjson

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// sample has a field of every kind.
type sample struct {
	Text   string             `json:"text"`
	Some   string             `json:"some,omitempty"`
	Bool   bool               `json:"bool,omitempty"`
	Int    int                `json:"int"`
	SomeI  int                `json:"someInt,omitempty"`
	Uint   uint64             `json:"uint"`
	SomeU  uint64             `json:"someUint,omitempty"`
	Float  float64            `json:"float"`
	SomeF  float64            `json:"someFloat,omitempty"`
	Time   time.Time          `json:"time"`
	SomeT  time.Time          `json:"someTime,omitzero"`
	Part   part               `json:"part"`
	SomeP  *part              `json:"somePart,omitempty"`
	Parts  []part             `json:"parts,omitempty"`
	Floats map[string]float64 `json:"floats,omitempty"`
	Other  map[string]string  `json:"other,omitempty"`
}

type part struct {
	Text string `json:"text,omitempty"`
	Sub  *part  `json:"sub,omitempty"`
}

func sampleFields(f *Fields, s *sample) {
	f.Text("text", &s.Text)
	f.OptionalText("some", &s.Some)
	f.OptionalBool("bool", &s.Bool)
	f.Int("int", &s.Int)
	f.OptionalInt("someInt", &s.SomeI)
	f.Uint("uint", &s.Uint)
	f.OptionalUint("someUint", &s.SomeU)
	f.Float("float", &s.Float)
	f.OptionalFloat("someFloat", &s.SomeF)
	f.Time("time", &s.Time)
	f.OptionalTime("someTime", &s.SomeT)
	Object(f, "part", &s.Part, partFields)
	OptionalObject(f, "somePart", &s.SomeP, partFields)
	OptionalObjects(f, "parts", &s.Parts, partFields)
	f.OptionalFloats("floats", s.Floats)
	f.Other("other", len(s.Other) > 0, s.Other)
}

func partFields(f *Fields, p *part) {
	f.OptionalText("text", &p.Text)
	OptionalObject(f, "sub", &p.Sub, partFields)
}

var (
	texts = rapid.OneOf(
		rapid.Just(""), rapid.String(), rapid.StringMatching(`[a-z]{1,8}`),
		rapid.StringOf(rapid.SampledFrom([]rune("<>&\"\\/'\b\f\n\r\t\x00\x1f\x7f\u2028\u2029\ufffdé€😀"))),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 8), func(b []byte) string { return string(b) }),
	)
	floats = rapid.OneOf(
		rapid.Float64(), rapid.Map(rapid.IntRange(-1e6, 1e9), func(n int) float64 { return float64(n) / 1000 }),
		rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1e-6, 9.99e-7, 1e21, 9.99e20, 1e-10, 1e100, -1e-300, math.MaxFloat64, math.SmallestNonzeroFloat64}),
	)
	times = rapid.Map(rapid.Int64Range(-62_135_596_800, 253_402_300_799), func(s int64) time.Time { return time.Unix(s, s*37%1e9/7).UTC() })
	parts = rapid.Custom(func(t *rapid.T) part {
		p := part{Text: texts.Draw(t, "text")}
		if rapid.Bool().Draw(t, "has a part") {
			p.Sub = &part{Text: texts.Draw(t, "text of the part")}
		}
		return p
	})
)

func drawSample(t *rapid.T) *sample {
	s := &sample{
		Text: texts.Draw(t, "text"), Some: texts.Draw(t, "some"), Bool: rapid.Bool().Draw(t, "bool"),
		Int: rapid.Int().Draw(t, "int"), SomeI: rapid.IntRange(-1, 1).Draw(t, "someInt"),
		Uint: rapid.Uint64().Draw(t, "uint"), SomeU: rapid.Uint64Range(0, 1).Draw(t, "someUint"),
		Float: floats.Draw(t, "float"), SomeF: floats.Draw(t, "someFloat"), Time: times.Draw(t, "time"),
		Part: parts.Draw(t, "part"), Parts: rapid.SliceOfN(parts, 0, 3).Draw(t, "parts"),
		Floats: rapid.MapOfN(texts, floats, 0, 20).Draw(t, "floats"), Other: rapid.MapOfN(texts, texts, 0, 2).Draw(t, "other"),
	}
	if rapid.Bool().Draw(t, "has a time") {
		s.SomeT = times.Draw(t, "someTime").In(time.FixedZone("", 3600*rapid.IntRange(-12, 14).Draw(t, "zone")))
	}
	if rapid.Bool().Draw(t, "has a part") {
		p := parts.Draw(t, "somePart")
		s.SomeP = &p
	}
	return s
}

// standard returns what encoding/json writes.
func standard(escape Escape, v any) (string, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(bool(escape))
	err := enc.Encode(v)
	return strings.TrimSuffix(out.String(), "\n"), err
}

func TestString_WritesWhatEncodingJSONWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSample(t)
		for _, escape := range []Escape{Plain, HTML} {
			want, wrong := standard(escape, s)
			got, err := String(escape, s, sampleFields)
			if (err != nil) != (wrong != nil) {
				t.Fatalf("the error is %v, encoding/json's %v", err, wrong)
			}
			if err == nil && got != want {
				t.Fatalf("wrote\n%s, encoding/json writes\n%s", got, want)
			}
			if raw, err := Bytes(escape, s, sampleFields); err == nil && string(raw) != want {
				t.Fatalf("as bytes\n%s, want\n%s", raw, want)
			}
		}
	})
}

func TestString_ReportsWhatJSONCannotHold(t *testing.T) {
	for name, s := range map[string]*sample{
		"a time after the year 9999": {Time: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)},
		"infinity":                   {Float: math.Inf(1)},
		"what is not a number":       {Floats: map[string]float64{"a": math.NaN()}},
	} {
		if text, err := String(Plain, s, sampleFields); err == nil {
			t.Errorf("%s is written as %s", name, text)
		}
	}
	if text, err := String(Plain, &part{Text: "x"}, partFields); err != nil || text != `{"text":"x"}` {
		t.Errorf("after errors a struct is written as %s, %v", text, err)
	}
}

func TestRead_ReadsWhatWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSample(t)
		s.Floats, s.Other, s.SomeT = nil, nil, s.SomeT.UTC() // these are never read
		s.Float, s.SomeF = math.Round(math.Mod(s.Float, 1e9)), 0.125
		text, err := String(HTML, s, sampleFields)
		if err != nil {
			t.Fatal(err)
		}
		var got, want sample
		if !Read(text, &got, sampleFields) {
			t.Fatalf("%s is not read", text)
		}
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%s is read as\n%+v, by encoding/json as\n%+v", text, got, want)
		}
	})
}

func TestRead_LeavesWhatIsSpeltOtherwiseToEncodingJSON(t *testing.T) {
	for name, text := range map[string]string{
		"a space":                   `{"text":"x", "int":1}`,
		"a name in another case":    `{"Text":"x"}`,
		"an unknown name":           `{"text":"x","later":1}`,
		"another order":             `{"int":1,"text":"x"}`,
		"a name twice":              `{"text":"x","text":"y"}`,
		"null":                      `{"text":null}`,
		"something behind":          `{"text":"x"} `,
		"no end":                    `{"text":"x"`,
		"no object":                 `[]`,
		"nothing":                   ``,
		"a number with an exponent": `{"float":1e3}`,
		"a number that starts so":   `{"float":01}`,
		"a number that ends so":     `{"float":1.}`,
		"an integer too large":      `{"int":9223372036854775808}`,
		"a fraction of an integer":  `{"int":1.0}`,
		"a negative Uint":           `{"uint":-1}`,
		"a time with a zone":        `{"time":"2026-03-01T12:00:00+01:00"}`,
		"an hour of one digit":      `{"time":"2026-03-01T1:00:00.000Z"}`,
		"a fraction after a comma":  `{"time":"2026-03-01T12:00:00,5Z"}`,
		"an empty list":             `{"parts":[]}`,
		"a list that ends so":       `{"parts":[{"text":"x"},]}`,
		"a control character":       "{\"text\":\"\x01\"}",
		"an escape of nothing":      `{"text":"\x"}`,
		"a comma at the beginning":  `{,"text":"x"}`,
		"a comma at the end":        `{"text":"x",}`,
		"no comma":                  `{"text":"x""int":1}`,
		"a name with an escape":     `{"te\u0078t":"x"}`,
		"a field that is not read":  `{"other":{"a":"b"}}`,
	} {
		if s := new(sample); Read(text, s, sampleFields) {
			t.Errorf("%s: %s is read as %+v", name, text, s)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, text := range []string{
		`{"text":"x","some":"\u00e9\n","bool":false,"int":-0,"someInt":7,"uint":18446744073709551615,"float":-0.5,"time":"2026-03-01T12:00:00.123456789Z"}`,
		`{"text":"` + "\xff\u2028" + `","part":{"sub":{"text":"x"}},"parts":[{"text":"]"},{},{"sub":{}}]}`,
		`{"bool":true,"someTime":"9999-12-31T24:00:00Z"}`, `{}`, `{"parts":[{"text":"},{"}]}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var got, want sample
		if !Read(text, &got, sampleFields) {
			return
		}
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatalf("%q is read, and refused by encoding/json: %v", text, err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("%q is read as\n%+v, by encoding/json as\n%+v", text, got, want)
		}
	})
}
