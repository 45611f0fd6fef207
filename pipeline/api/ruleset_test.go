package api_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/pipeline/api"
)

// A reload by HTTP answers with what is in force, or with every problem; it takes nothing from who asks.
func TestAReloadByHTTPSaysWhatIsInForceOrWhatIsWrong(t *testing.T) {
	config := pipeline.DefaultConfig()
	config.Store, config.Rules, config.RulesKept, config.Reload.Watch = pipeline.MemoryStore, t.TempDir(), t.TempDir(), false
	if err := os.Mkdir(filepath.Join(config.Rules, "rules"), 0o755); err != nil {
		t.Fatal(err)
	}
	deploy := func(when string) {
		t.Helper()
		content := "rules:\n  - {id: large, verdict: hold, when: '" + when + "'}\n"
		if err := os.WriteFile(filepath.Join(config.Rules, "rules", "large.yaml"), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	deploy("amount > CNY(10)")
	reg := prometheus.NewRegistry()
	service, err := pipeline.NewService(t.Context(), config, reg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = service.Gate().Store.Close() }()
	server := httptest.NewServer((&api.Ops{Service: service, Metrics: reg}).Handler())
	defer server.Close()
	call := func(method, path string, wantStatus int, to any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != wantStatus {
			t.Fatalf("%s %s: status %d, want %d: %s", method, path, res.StatusCode, wantStatus, body)
		}
		if to != nil {
			if err := json.Unmarshal(body, to); err != nil {
				t.Fatalf("%s %s: %v: %s", method, path, err, body)
			}
		}
	}
	var before, after pipeline.RulesetReport
	call("GET", "/ruleset", http.StatusOK, &before)
	if before.InForce.Ruleset != service.Gate().Rules.Hash() || before.Holds != before.InForce.Ruleset || len(before.Kept) != 1 || before.Refused != nil {
		t.Errorf("reported is %+v", before)
	}

	deploy("amount > CNY(20)")
	call("GET", "/ruleset/reload", http.StatusMethodNotAllowed, nil)
	call("POST", "/ruleset/reload?rules=/etc", http.StatusOK, &after)
	if after.InForce.Ruleset == before.InForce.Ruleset || after.InForce.Ruleset != service.Gate().Rules.Hash() {
		t.Errorf("after a reload: %+v", after)
	}

	deploy("amuont > CNY(20)")
	var refused api.RulesetRefused
	call("POST", "/ruleset/reload", http.StatusUnprocessableEntity, &refused)
	if refused.InForce != after.InForce.Ruleset || len(refused.Problems) != 1 || refused.Problems[0].File != "rules/large.yaml" || refused.Problems[0].Line != 2 || refused.Error == "" {
		t.Errorf("a bad folder: %+v", refused)
	}
	var report pipeline.RulesetReport
	call("GET", "/ruleset", http.StatusOK, &report)
	if report.InForce != after.InForce || report.Refused == nil || len(report.Refused.Problems) != 1 {
		t.Errorf("reported is %+v", report)
	}

	if err := os.RemoveAll(config.Rules); err != nil {
		t.Fatal(err)
	}
	refused = api.RulesetRefused{}
	call("POST", "/ruleset/reload", http.StatusUnprocessableEntity, &refused)
	if refused.Error == "" || len(refused.Problems) != 0 {
		t.Errorf("a folder that is gone: %+v", refused)
	}
}
