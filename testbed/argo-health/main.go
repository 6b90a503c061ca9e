// Command argo-health runs Berth's health checks for Argo CD.
//
//	go run .                       all fixtures, and whether argocd-cm.yaml holds the same scripts
//	go run . object.yaml           the health of an object; a list is read too
//	kubectl get sessions -A -o yaml | go run . -
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// kinds are those that have a check.
var kinds = []string{"Session", "SessionPolicy", "Workspace"}

// Where things are, from the folder of this module.
const (
	gitops   = "../../examples/gitops/argocd"
	crds     = "../../crds"
	fixtures = "testdata"
)

const group = "berth.dev"

func main() {
	failed := false
	tell := func(err error) {
		failed = true
		fmt.Fprintln(os.Stderr, err)
	}
	if len(os.Args) > 1 {
		for _, name := range os.Args[1:] {
			if err := show(name); err != nil {
				tell(fmt.Errorf("%s: %w", name, err))
			}
		}
	} else {
		cases, err := allCases()
		if err != nil {
			tell(err)
		}
		for _, each := range cases {
			if err := each.run(); err != nil {
				tell(err)
			}
		}
		if err := compareConfigMap(); err != nil {
			tell(err)
		}
		if !failed {
			fmt.Printf("%d cases; argocd-cm.yaml holds the same scripts\n", len(cases))
		}
	}
	if failed {
		os.Exit(1)
	}
}

// testCase is one object and the health that it must have.
type testCase struct {
	file   string
	name   string
	want   Health
	object map[string]any
}

// run says what differs from what is wanted, with the libraries of a custom check and with all of them.
func (c testCase) run() error {
	kind, _ := c.object["kind"].(string)
	script, err := readScript(kind)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", c.file, c.name, err)
	}
	for _, openLibs := range []bool{false, true} {
		got, err := check(script, c.object, openLibs)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", c.file, c.name, err)
		}
		if got != c.want {
			return fmt.Errorf("%s: %s: the health is %q (%q), wanted %q (%q)", c.file, c.name, got.Status, got.Message, c.want.Status, c.want.Message)
		}
	}
	return nil
}

func readScript(kind string) (string, error) {
	text, err := os.ReadFile(filepath.Join(gitops, "health", kind+".lua"))
	return string(text), err
}

// allCases reads every fixture: files with a list of cases, each with name, health and object.
func allCases() ([]testCase, error) {
	files, err := filepath.Glob(filepath.Join(fixtures, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no fixtures in %s", fixtures)
	}
	var cases []testCase
	for _, file := range files {
		document, err := readYAML(file)
		if err != nil {
			return nil, err
		}
		list, _ := document.([]any)
		if len(list) == 0 {
			return nil, fmt.Errorf("%s: no cases", file)
		}
		for index, item := range list {
			fields, _ := item.(map[string]any)
			name, _ := fields["name"].(string)
			health, _ := fields["health"].(map[string]any)
			object, _ := fields["object"].(map[string]any)
			status, _ := health["status"].(string)
			message, _ := health["message"].(string)
			if len(fields) != 3 || name == "" || object == nil || status == "" {
				return nil, fmt.Errorf("%s: case %d needs name, health and object, and nothing else", file, index)
			}
			cases = append(cases, testCase{file: file, name: name, want: Health{status, message}, object: object})
		}
	}
	return cases, nil
}

// compareConfigMap says where argocd-cm.yaml and the scripts differ.
func compareConfigMap() error {
	file := filepath.Join(gitops, "argocd-cm.yaml")
	document, err := readYAML(file)
	if err != nil {
		return err
	}
	object, _ := document.(map[string]any)
	data, _ := object["data"].(map[string]any)
	var problems []error
	for _, kind := range kinds {
		key := "resource.customizations.health." + group + "_" + kind
		script, err := readScript(kind)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if data[key] != script {
			problems = append(problems, fmt.Errorf("%s: %s is not health/%s.lua: copy it", file, key, kind))
		}
		delete(data, key)
	}
	for key := range data {
		if strings.HasPrefix(key, "resource.customizations.health.") {
			problems = append(problems, fmt.Errorf("%s: %s has no script in health/", file, key))
		}
	}
	return errors.Join(problems...)
}

// show prints the health of the objects in a file.
func show(name string) error {
	var text []byte
	var err error
	if name == "-" {
		text, err = io.ReadAll(os.Stdin)
	} else {
		text, err = os.ReadFile(name)
	}
	if err != nil {
		return err
	}
	document, err := fromYAML(text)
	if err != nil {
		return err
	}
	object, ok := document.(map[string]any)
	if !ok {
		return errors.New("it is no object")
	}
	objects := []any{object}
	if items, ok := object["items"].([]any); ok {
		objects = items
	}
	for _, item := range objects {
		object, _ := item.(map[string]any)
		metadata, _ := object["metadata"].(map[string]any)
		kind, _ := object["kind"].(string)
		script, err := readScript(kind)
		if err != nil {
			return err
		}
		health, err := check(script, object, false)
		if err != nil {
			return fmt.Errorf("%s %v: %w", kind, metadata["name"], err)
		}
		fmt.Printf("%s %v/%v: %s: %s\n", kind, metadata["namespace"], metadata["name"], health.Status, health.Message)
	}
	return nil
}

func readYAML(file string) (any, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	document, err := fromYAML(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return document, nil
}
