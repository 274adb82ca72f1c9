package config

// Value is one setting as it is in force.
type Value struct {
	// Key is the setting's name, which is its key in a file and its flag.
	Key string
	// Value is the value as written; a secret is redacted.
	Value string
	// Source says where it came from: "default", "file:line:column", the name
	// of a variable, or a flag with its dashes. A displaced value is empty, and
	// Source names the setting that displaced it.
	Source string
}

// layer is the weight of a source of values; a heavier one wins.
type layer int

const (
	layerDefault layer = iota
	layerFile
	layerEnvironment
	layerFlag
)

// given is one setting's value as it was found.
type given struct {
	text   string
	layer  layer
	source string
}

// shown returns the text with its secrets redacted.
func (s *setting) shown(text string) string {
	switch {
	case s.secret && text != "":
		return redacted
	case s.key == "nats":
		var urls []URL
		if err := setURLs(&urls, text); err != nil {
			return redacted
		}
		return joinURLs(urls)
	case s.key == "redis":
		return redactURL(text)
	}
	return text
}
