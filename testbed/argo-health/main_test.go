package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
)

func TestEveryFixtureHasTheHealthThatItSays(t *testing.T) {
	cases, err := allCases()
	if err != nil {
		t.Fatal(err)
	}
	for _, each := range cases {
		t.Run(each.name, func(t *testing.T) {
			if err := each.run(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheConfigMapHoldsTheSameScripts(t *testing.T) {
	if err := compareConfigMap(); err != nil {
		t.Error(err)
	}
}

// A phase that is added to a CRD needs a fixture.
func TestEveryPhaseOfTheCRDsHasAFixture(t *testing.T) {
	cases, err := allCases()
	if err != nil {
		t.Fatal(err)
	}
	for kind, file := range map[string]string{"Session": "sessions.yaml", "Workspace": "workspaces.yaml"} {
		crd, err := readYAML(filepath.Join(crds, file))
		if err != nil {
			t.Fatal(err)
		}
		path := []any{"spec", "versions", 0, "schema", "openAPIV3Schema", "properties", "status", "properties", "phase", "enum"}
		phases, _ := at(crd, path).([]any)
		phases = slices.DeleteFunc(phases, func(phase any) bool { return phase == nil })
		if len(phases) == 0 {
			t.Fatalf("%s: no phases", file)
		}
		for _, phase := range phases {
			has := func(c testCase) bool {
				return c.object["kind"] == kind && at(c.object, []any{"status", "phase"}) == phase
			}
			if !slices.ContainsFunc(cases, has) {
				t.Errorf("no fixture for a %s that is %v", kind, phase)
			}
		}
	}
}

// Whatever stands in the place of any part of an object, a check answers, and with a status that Argo CD knows.
func TestNoDamageMakesACheckFail(t *testing.T) {
	cases, err := allCases()
	if err != nil {
		t.Fatal(err)
	}
	deep := any("x")
	for range 50 {
		deep = map[string]any{"conditions": []any{deep}, "message": "x"}
	}
	damages := []any{nil, true, int64(-1), 1.5, "", "True", []any{}, []any{int64(1), "x", nil}, map[string]any{}, map[string]any{"type": "Ready"}, deep}
	runs := 0
	for _, each := range cases {
		kind, _ := each.object["kind"].(string)
		script, err := readScript(kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths(each.object) {
			for _, damage := range damages {
				object, _ := with(each.object, path, damage).(map[string]any)
				if _, err := check(script, object, false); err != nil {
					t.Fatalf("%s: %v as %v: %v", each.name, path, damage, err)
				}
				runs++
			}
		}
	}
	if runs < 1000 {
		t.Errorf("only %d damaged objects were tried", runs)
	}
}

// at gives what is found by walking along path.
func at(value any, path []any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			fields, _ := value.(map[string]any)
			value = fields[step]
		case int:
			items, _ := value.([]any)
			if step >= len(items) {
				return nil
			}
			value = items[step]
		}
	}
	return value
}

// paths are all places in an object that a check may look at.
func paths(value any) [][]any {
	found := [][]any{}
	add := func(step any, below any) {
		found = append(found, []any{step})
		for _, rest := range paths(below) {
			found = append(found, append([]any{step}, rest...))
		}
	}
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(value)) {
			if key != "spec" {
				add(key, value[key])
			}
		}
	case []any:
		for index, item := range value {
			add(index, item)
		}
	}
	return found
}

// with is value with replacement at path; the original stays as it is.
func with(value any, path []any, replacement any) any {
	if len(path) == 0 {
		return replacement
	}
	switch step := path[0].(type) {
	case string:
		fields := maps.Clone(value.(map[string]any))
		fields[step] = with(fields[step], path[1:], replacement)
		return fields
	case int:
		items := slices.Clone(value.([]any))
		items[step] = with(items[step], path[1:], replacement)
		return items
	}
	panic(fmt.Sprintf("no step: %v", path[0]))
}
