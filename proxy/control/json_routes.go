package control

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/sconce-dev/sconce/proxy"
)

// openAPIPath is where the description is.
const openAPIPath = "/openapi.json"

// routes is what the JSON API has. grpc-gateway matches paths too, but lets pass
// what it does not know in a query, and cannot tell which verbs a path takes.
type routes []*route

// route is one verb of one path.
type route struct {
	path  []string // its segments; {x} stands for anything
	verb  string
	query protoreflect.MessageDescriptor // what the query may name; nil = nothing
}

// readRoutes takes the routes from the description that is generated beside the
// handlers.
func readRoutes(openAPI []byte) (routes, error) {
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		}
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		return nil, fmt.Errorf("control: read openapi.json: %w", err)
	}
	list := routes{{path: segments(openAPIPath), verb: http.MethodGet}}
	for path, verbs := range doc.Paths {
		for verb, operation := range verbs {
			r := &route{path: segments(path), verb: strings.ToUpper(verb)}
			if r.verb == http.MethodGet {
				var err error
				if r.query, err = inputOf(operation.OperationID); err != nil {
					return nil, err
				}
			}
			list = append(list, r)
		}
	}
	return list, nil
}

// inputOf finds the request message of an operation, Service_Method.
func inputOf(operation string) (protoreflect.MessageDescriptor, error) {
	name := "sconce.v1." + strings.Replace(operation, "_", ".", 1)
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil, fmt.Errorf("control: operation %s of openapi.json: %w", operation, err)
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("control: operation %s of openapi.json is no method", operation)
	}
	return method.Input(), nil
}

func segments(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

// find returns the route of a request, or what is wrong with its path or verb.
func (rs routes) find(r *http.Request) (*route, *proxy.Refusal) {
	path := segments(r.URL.EscapedPath())
	known := false
	for _, one := range rs {
		if one.matches(path) {
			if one.verb == r.Method {
				return one, nil
			}
			known = true
		}
	}
	row := proxy.RefusePath(r.URL.Path)
	if known {
		row = proxy.RefuseVerb(r.URL.Path, r.Method, strings.Join(rs.verbs(r), " or "))
	}
	return nil, &row
}

// verbs are those that the path of a request takes.
func (rs routes) verbs(r *http.Request) (list []string) {
	path := segments(r.URL.EscapedPath())
	for _, one := range rs {
		if one.matches(path) {
			list = append(list, one.verb)
		}
	}
	slices.Sort(list)
	return list
}

func (r *route) matches(path []string) bool {
	return slices.EqualFunc(r.path, path, matchesSegment)
}

// matchesSegment: {x} is one segment without a colon, and {x}:verb the same with
// one behind it.
func matchesSegment(pattern, segment string) bool {
	begin, verb, ok := strings.Cut(pattern, "}")
	if !ok || !strings.HasPrefix(begin, "{") {
		return pattern == segment
	}
	value, ok := strings.CutSuffix(segment, verb)
	return ok && value != "" && !strings.Contains(value, ":")
}

// checkQuery refuses what the call does not know.
func (r *route) checkQuery(raw string) *proxy.Refusal {
	values, err := url.ParseQuery(raw)
	if err != nil {
		row := proxy.RefuseJSON("the query", "it is not well encoded")
		return &row
	}
	for name := range values {
		if !r.takes(name) {
			row := proxy.RefuseJSON("the query", "it names "+name)
			return &row
		}
	}
	return nil
}

// checkBody says what of a body the call would not heed; "" = it heeds it all, or
// will say itself what is wrong.
func (r *route) checkBody(body []byte) (problem string) {
	var fields map[string]json.RawMessage
	switch {
	case len(body) == 0:
		return ""
	case r.verb == http.MethodGet:
		return "there is to be none"
	case json.Unmarshal(body, &fields) != nil:
		return ""
	}
	for name := range fields {
		if r.inPath(name) {
			return "it has " + name + ", which stands in the path"
		}
	}
	return ""
}

// inPath says whether a segment of the path stands for the field, in either spelling.
func (r *route) inPath(name string) bool {
	return slices.ContainsFunc(r.path, func(s string) bool {
		field, _, ok := strings.Cut(strings.TrimPrefix(s, "{"), "}")
		return ok && strings.EqualFold(field, strings.ReplaceAll(name, "_", ""))
	})
}

// ofMap is how a query names one key of a map, as grpc-gateway reads it.
var ofMap = regexp.MustCompile(`^(.*)\[(.*)\]$`)

// takes says whether a query may name a field: one of the message that is not in
// the path, and one of a map with its key, labels[team].
func (r *route) takes(name string) bool {
	if r.query == nil {
		return false
	}
	keyed := ofMap.FindStringSubmatch(name)
	if keyed != nil {
		name = keyed[1]
	}
	field := r.query.Fields().ByTextName(name)
	if field == nil {
		field = r.query.Fields().ByJSONName(name)
	}
	return field != nil && field.IsMap() == (keyed != nil) && !r.inPath(name)
}
