package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/sluice-risk/sluice/pipeline"
	"github.com/sluice-risk/sluice/rules"
)

// RulesetRefused is the answer to a reload of a folder that holds no good ruleset,
// or of one that could not be put in force.
type RulesetRefused struct {
	Error    string          `json:"error"`
	InForce  string          `json:"in_force"`           // the hash of the ruleset that stays
	Problems []rules.Problem `json:"problems,omitempty"` // where the files could be read
}

// rulesetRoutes answers what the ruleset is (GET /ruleset), and loads its folder
// again (POST /ruleset/reload): 200 with what is in force, 422 with the problems,
// 503 where a good ruleset could not be put in force. A reload takes nothing from
// who asks for it: it loads the folder that the gate was started with.
func rulesetRoutes(mux *http.ServeMux, s *pipeline.Service) {
	mux.HandleFunc("GET /ruleset", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, s.Rulesets())
	})
	mux.HandleFunc("POST /ruleset/reload", func(w http.ResponseWriter, r *http.Request) {
		err := s.Reload(context.WithoutCancel(r.Context())) // who hangs up does not leave it half done
		if err == nil {
			answer(w, http.StatusOK, s.Rulesets())
			return
		}
		refused, status := RulesetRefused{Error: err.Error(), InForce: s.Rulesets().InForce.Ruleset}, http.StatusServiceUnavailable
		if e := (*pipeline.RefusedError)(nil); errors.As(err, &e) {
			status = http.StatusUnprocessableEntity
		}
		if p := (rules.Problems)(nil); errors.As(err, &p) {
			refused.Problems = p
		}
		answer(w, status, refused)
	})
}

// answer writes JSON.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(v) // who hangs up wants no answer
}
