// Runs a health check as Argo CD runs it: the same interpreter, the same libraries, the same way in and out.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	lua "github.com/yuin/gopher-lua"
	luajson "layeh.com/gopher-json"
	"sigs.k8s.io/yaml"
)

// Health is what a check returns.
type Health struct {
	Status  string `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
}

// statuses are those that Argo CD knows; it shows every other one as Unknown.
var statuses = map[string]bool{
	"Unknown": true, "Progressing": true, "Suspended": true, "Healthy": true, "Degraded": true, "Missing": true,
}

// deadline is how long Argo CD lets a check run.
const deadline = time.Second

// check runs script on object. A check from the ConfigMap has only the libraries below, so no string and no math, unless
// its owner sets useOpenLibs; the checks that Argo CD brings itself have all of them.
func check(script string, object map[string]any, openLibs bool) (Health, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: !openLibs})
	defer state.Close()
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return Health{}, err
		}
	}
	state.PreloadModule(lua.OsLibName, safeOs)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(script); err != nil {
		return Health{}, err
	}
	answer := state.Get(-1)
	if answer.Type() != lua.LTTable {
		return Health{}, fmt.Errorf("the check returns a %s, and Argo CD wants a table", answer.Type())
	}
	text, err := luajson.Encode(answer)
	if err != nil {
		return Health{}, err
	}
	var health Health
	if err := json.Unmarshal(text, &health); err != nil {
		return Health{}, err
	}
	if !statuses[health.Status] {
		return Health{}, fmt.Errorf("the check returns the status %q, which Argo CD does not know", health.Status)
	}
	return health, nil
}

// safeOs is the library os without what could read files, the environment or end the process.
func safeOs(state *lua.LState) int {
	state.Push(state.SetFuncs(state.NewTable(), map[string]lua.LGFunction{
		"time": func(state *lua.LState) int {
			state.Push(lua.LNumber(time.Now().Unix()))
			return 1
		},
		"date": func(state *lua.LState) int {
			state.Push(lua.LString(time.Now().Format(time.RFC3339)))
			return 1
		},
	}))
	return 1
}

// toLua gives an object as Kubernetes' unstructured values become tables there: null is left out of lists and maps.
func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		table := state.CreateTable(len(value), 0)
		for _, item := range value {
			table.Append(toLua(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	}
	return lua.LNil
}

// fromYAML reads a document as the unstructured values of Kubernetes: whole numbers are int64, all others float64.
func fromYAML(document []byte) (any, error) {
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	return withNumbers(value), nil
}

func withNumbers(value any) any {
	switch value := value.(type) {
	case json.Number:
		if whole, err := value.Int64(); err == nil {
			return whole
		}
		fraction, _ := value.Float64()
		return fraction
	case []any:
		for index := range value {
			value[index] = withNumbers(value[index])
		}
	case map[string]any:
		for key := range value {
			value[key] = withNumbers(value[key])
		}
	}
	return value
}
