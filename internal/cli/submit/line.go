package submit

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/nats-io/nuid"

	"github.com/rebound-mq/rebound/events"
)

// parseSubmission reads a JSON object: a CloudEvent in its JSON form, or one
// with service, operation, data and any attributes.
func parseSubmission(text []byte) (*submission, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, fmt.Errorf("the line is no JSON object: %w", err)
	}
	attributes := make(map[string]string, len(members))
	var data, dataBase64 json.RawMessage
	for name, value := range members {
		switch name = strings.ToLower(name); name {
		case "data":
			data = value
		case "data_base64":
			dataBase64 = value
		default:
			text, given, err := attribute(value)
			if err != nil {
				return nil, fmt.Errorf("attribute %q %w", name, err)
			}
			if given {
				attributes[name] = text
			}
		}
	}
	sub := &submission{service: attributes["service"], operation: attributes["operation"]}
	for _, name := range []string{"service", "operation"} {
		if err := events.CheckName(attributes[name]); err != nil {
			return nil, fmt.Errorf("attribute %s %w", name, err)
		}
	}
	complete(attributes)
	var err error
	if sub.event, err = cloudEvent(attributes); err != nil {
		return nil, err
	}
	return sub, setData(sub.event, data, dataBase64)
}

// attribute reads the value of an attribute; null means none.
func attribute(value json.RawMessage) (text string, given bool, err error) {
	switch value[0] {
	case 'n':
		return "", false, nil
	case '"':
		err = json.Unmarshal(value, &text)
		return text, true, err
	case '{', '[':
		return "", false, errors.New("is no text, number or boolean")
	}
	return string(value), true, nil
}

// complete adds the attributes that make an object a CloudEvent.
func complete(attributes map[string]string) {
	if _, is := attributes["specversion"]; is {
		return
	}
	for name, value := range map[string]string{
		"specversion": event.CloudEventsVersionV1, "type": events.TypeFailed, "source": cliSource, "id": nuid.Next(),
	} {
		if attributes[name] == "" {
			attributes[name] = value
		}
	}
}

func cloudEvent(attributes map[string]string) (*event.Event, error) {
	envelope, err := json.Marshal(attributes)
	if err != nil {
		return nil, err
	}
	e := new(event.Event)
	if err := e.UnmarshalJSON(envelope); err != nil {
		return nil, fmt.Errorf("the line is no CloudEvent: %w", err)
	}
	if err := e.Validate(); err != nil {
		return nil, fmt.Errorf("the line is no CloudEvent: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	return e, nil
}

// setData sets the payload byte for byte: JSON stays as it is written in the line, and
// for another content type the payload is the contents of the JSON string.
func setData(e *event.Event, data, dataBase64 json.RawMessage) error {
	mediaType := e.DataMediaType()
	isText := mediaType != "" && mediaType != event.ApplicationJSON && mediaType != event.TextJSON && !strings.HasSuffix(mediaType, "+json")
	switch {
	case dataBase64 != nil:
		var encoded string
		if err := json.Unmarshal(dataBase64, &encoded); err != nil {
			return errors.New("data_base64 is no text")
		}
		decoded, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return fmt.Errorf("data_base64: %w", err)
		}
		return e.SetData(cmp.Or(e.DataContentType(), "application/octet-stream"), decoded)
	case data == nil:
		return nil
	case isText && data[0] == '"':
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		return e.SetData(e.DataContentType(), []byte(text))
	}
	return e.SetData(cmp.Or(e.DataContentType(), event.ApplicationJSON), []byte(data))
}
