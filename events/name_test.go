package events_test

import (
	"testing"

	"github.com/rebound-mq/rebound/events"
)

func TestCheckName_NamesTheCharacterRatherThanItsFirstByte(t *testing.T) {
	const allowed = "; only ASCII letters, digits, dashes and underscores are allowed"
	for name, want := range map[string]string{
		"café":     `"café" has the character 'é'` + allowed,
		"日本":       `"日本" has the character '日'` + allowed,
		"a\u200bb": `"a\u200bb" has the character '\u200b'` + allowed,
		"a b":      `"a b" has the character ' '` + allowed,
		"a\x00":    `"a\x00" has the character '\x00'` + allowed,
		"a\xff":    `"a\xff" is not valid UTF-8` + allowed,
		"a�":       `"a�" has the character '�'` + allowed,
	} {
		if err := events.CheckName(name); err == nil || err.Error() != want {
			t.Errorf("the error is %v, want %s", err, want)
		}
	}
}
