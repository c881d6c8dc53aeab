package configs

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// file applies one YAML document. It walks the syntax tree beside the struct,
// and not the decoder of the library, because that stops at the first fault.
func (l *loader) file(name string, data []byte) {
	l.name = name
	parsed, err := parser.ParseBytes(data, 0)
	if err != nil {
		l.syntax(err)
		return
	}
	bodies := 0
	for _, doc := range parsed.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType || doc.Body.Type() == ast.NullType {
			continue
		}
		if bodies++; bodies > 1 {
			l.at(doc.Body, "", "a second YAML document: keep one")
			return
		}
		l.mapping(doc.Body, reflect.ValueOf(l.config).Elem(), "")
	}
}

// syntax notes what the YAML parser said, with its place.
func (l *loader) syntax(err error) {
	var se *yaml.SyntaxError
	if !errors.As(err, &se) {
		l.faults = append(l.faults, Fault{Source: l.name, Problem: "not YAML: " + err.Error()})
		return
	}
	line := 0
	if se.Token != nil && se.Token.Position != nil {
		line = se.Token.Position.Line
	}
	l.faults = append(l.faults, Fault{fmt.Sprintf("%s:%d", l.name, line), line, "", "not YAML: " + se.Message})
}

// at notes a fault at the place of a node.
func (l *loader) at(n ast.Node, path, format string, args ...any) {
	p := l.placeOf(n)
	l.faults = append(l.faults, Fault{p.source, p.line, path, fmt.Sprintf(format, args...)})
}

func (l *loader) placeOf(n ast.Node) place {
	line := 0
	if t := n.GetToken(); t != nil && t.Position != nil {
		line = t.Position.Line
	}
	return place{fmt.Sprintf("%s:%d", l.name, line), line}
}

// mapping fills v, a struct, from node.
func (l *loader) mapping(node ast.Node, v reflect.Value, prefix string) {
	values, ok := entries(node)
	if !ok {
		l.at(node, strings.TrimSuffix(prefix, "."), "write keys with values below it")
		return
	}
	fields := map[string]reflect.Value{}
	var known []string
	for i := range v.NumField() {
		n := name(v.Type().Field(i))
		fields[n], known = v.Field(i), append(known, n)
	}
	for _, e := range values {
		k := e.Key.GetToken().Value
		f, ok := fields[k]
		if !ok {
			l.at(e.Key, prefix+k, "unknown key%s", suggest(k, known))
			continue
		}
		l.origin[prefix+k] = l.placeOf(e.Key)
		l.value(e.Value, f, prefix+k)
	}
}

func entries(node ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// value fills v from node. A key without a value keeps its default.
func (l *loader) value(node ast.Node, v reflect.Value, path string) {
	switch {
	case node.Type() == ast.NullType:
	case v.Kind() == reflect.Struct:
		l.mapping(node, v, path+".")
	case v.Kind() == reflect.Slice:
		l.list(node, v, path)
	default:
		l.scalar(node, v, path)
	}
}

func (l *loader) scalar(node ast.Node, v reflect.Value, path string) {
	if text, ok := hostPort(node); ok && v.Kind() == reflect.String {
		v.SetString(text)
		return
	}
	s, ok := node.(ast.ScalarNode)
	if !ok || node.Type() == ast.AnchorType || node.Type() == ast.AliasType {
		l.at(node, path, "write one plain value")
		return
	}
	text := s.GetToken().Value
	if lit, ok := node.(*ast.LiteralNode); ok {
		text = lit.Value.Value
	}
	if err := parseInto(v, text); err != nil {
		l.at(node, path, "%v", err)
	}
}

// hostPort puts together what the parser takes apart: in {a: [host:1234]} it
// sees the pair "host: 1234", though YAML 1.2 section 7.3.3 wants a space for that.
func hostPort(node ast.Node) (string, bool) {
	pairs, ok := entries(node)
	if !ok || len(pairs) != 1 {
		return "", false
	}
	k, v := pairs[0].Key.GetToken(), pairs[0].Value.GetToken()
	if k == nil || v == nil || k.Position.Line != v.Position.Line || k.Position.Column+len(k.Value)+1 != v.Position.Column {
		return "", false
	}
	return k.Value + ":" + v.Value, true
}

// list replaces what v held. Its entries are structs or strings.
func (l *loader) list(node ast.Node, v reflect.Value, path string) {
	seq, ok := node.(*ast.SequenceNode)
	if !ok {
		l.at(node, path, "write a list: each entry on a line of its own, after a dash")
		return
	}
	out := reflect.MakeSlice(v.Type(), 0, len(seq.Values))
	for i, n := range seq.Values {
		p := fmt.Sprintf("%s[%d]", path, i)
		l.origin[p] = l.placeOf(n)
		entry := reflect.New(v.Type().Elem()).Elem()
		if d, ok := entry.Addr().Interface().(interface{ setDefaults() }); ok {
			d.setDefaults()
		}
		l.value(n, entry, p)
		out = reflect.Append(out, entry)
	}
	if out.Len() == 0 {
		out = reflect.Zero(v.Type())
	}
	v.Set(out)
}
