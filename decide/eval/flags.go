package eval

import (
	"slices"
	"strings"
)

const surveyPrefix = "survey-targeting-"

// compileFlag compiles the record of a flag. Deleted flags and those with encrypted payloads do not exist for the service.
func (c *compiler) compileFlag(record []byte) {
	row, err := parseJSON(string(record))
	id, hasID := row.member("id").integer()
	if err != nil && err != errDepth || !hasID || !row.member("key").is(String) {
		return // no row of the table
	}
	f := &Flag{ID: id, Key: strings.Clone(row.member("key").Text), group: -1, enrollment: -1}
	if row.member("deleted").truth() || row.member("has_encrypted_payloads").truth() || c.byID[id] != nil || c.p.byKey[f.Key] != nil {
		return
	}
	f.Version, _ = row.member("version").integer() // null counts as 0
	f.HasExperiment = c.experiments[id]
	f.active = row.member("active").truth()
	f.survey = strings.HasPrefix(f.Key, surveyPrefix)
	f.contexts = c.contexts[id]
	f.runtime = RuntimeAll
	if runtime := row.member("evaluation_runtime"); runtime.is(String) {
		switch runtime.Text {
		case "client":
			f.runtime = RuntimeClient
		case "server":
			f.runtime = RuntimeServer
		}
	}
	f.continuity = row.member("ensure_experience_continuity").truth()
	f.byDevice = row.member("bucketing_identifier").is(String) && row.member("bucketing_identifier").Text == "device_id"
	f.prefix = f.Key + "."
	c.byID[id], c.p.byKey[f.Key] = f, f
	c.p.flags = append(c.p.flags, f)

	a := newAnswers(f)
	f.off = a.plain(false, "")
	if err == nil {
		err = c.compileDocument(f, &row, a)
	}
	if err != nil {
		c.refuse(f, err.Error())
	}
}

// refuse marks a flag that cannot be evaluated.
func (c *compiler) refuse(f *Flag, reason string) {
	f.fault, f.conditions, f.super, f.holdout, f.enrollment = faultDefinition, nil, nil, nil, -1
	delete(c.references, f)
	if f.active {
		c.p.problems = append(c.p.problems, Problem{f.ID, f.Key, reason})
	}
}

// compileDocument compiles the filters of a flag. A flag that is off needs none, but even then its document must be of the known kind, as what depends
// on it is refused otherwise.
func (c *compiler) compileDocument(f *Flag, row *node, a *answers) error {
	document := row.member("filters")
	f.refused = true
	if !document.is(Object) {
		return unreadable("no document")
	}
	if version := document.member("version"); version != nil {
		if v, ok := version.float(); !ok || v != 1 {
			return unreadable("document version %s, only 1 is known", version.raw)
		}
	}
	groups := document.present("groups")
	if f.active && groups != nil && groups.Kind != Array {
		return unreadable("groups are no list")
	}
	f.refused = false
	if !f.active {
		return nil
	}
	if document.member("groups") == nil {
		groups = c.legacyGroups(document, row)
	}
	if err := c.compileAnswers(f, document, a); err != nil {
		return err
	}
	if index := document.present("aggregation_group_type_index"); index != nil {
		i, ok := index.integer()
		if !ok {
			return unreadable("aggregation_group_type_index %s", index.raw)
		}
		f.group = c.groupAt(i)
	}
	if f.byDevice {
		c.p.device = c.personSlot("$device_id")
	}
	if err := c.compileSpecial(f, document, a); err != nil {
		return err
	}
	return c.compileConditions(f, groups, document, a)
}

// legacyGroups is the one condition of a document without conditions: the form of 2021 and before. Today's service takes one that says nothing for no
// condition, the server of 2023 for one that everybody meets.
func (c *compiler) legacyGroups(document, row *node) *node {
	properties, rollout := document.present("properties"), row.present("rollout_percentage")
	if properties == nil && rollout == nil && c.rules != Rules2023 {
		return nil
	}
	condition := node{Value: Value{Kind: Object}}
	if properties != nil {
		condition.names, condition.items = append(condition.names, "properties"), append(condition.items, *properties)
	}
	if rollout != nil {
		condition.names, condition.items = append(condition.names, "rollout_percentage"), append(condition.items, *rollout)
	}
	return &node{Value: Value{Kind: Array}, items: []node{condition}}
}

// compileAnswers compiles the values that the flag can take.
func (c *compiler) compileAnswers(f *Flag, document *node, a *answers) error {
	a.payloads = document.present("payloads")
	f.on = a.plain(true, "true")
	multivariate := document.present("multivariate")
	if multivariate == nil {
		f.anyHash = f.on
		return nil
	}
	list := multivariate.member("variants")
	if !list.is(Array) {
		return unreadable("multivariate without variants")
	}
	boundary := 0.0
	for i := range list.items {
		key, share := list.items[i].member("key"), list.items[i].member("rollout_percentage")
		percentage, ok := share.float()
		if !key.is(String) || !ok {
			return unreadable("variant %d", i)
		}
		boundary += float64(percentage / 100) // the conversion forbids fusing: every machine must get these bits
		f.variants = append(f.variants, variant{boundary, a.variant(strings.Clone(key.Text))})
	}
	f.anyHash = f.certain()
	return nil
}

// certain is the value that every hash leads to, nil if it depends on the hash.
func (f *Flag) certain() *Answer {
	for _, v := range f.variants {
		switch {
		case v.boundary >= 1:
			return v.answer
		case v.boundary > 0:
			return nil
		}
	}
	return f.on
}

// compileSpecial compiles what comes before the conditions: early access and holdout, each in its newer or older form.
func (c *compiler) compileSpecial(f *Flag, document *node, a *answers) error {
	supers := document.present("super_groups")
	if document.member("feature_enrollment").truth() {
		f.enrollment = c.personSlot("$feature_enrollment/" + f.Key)
	} else if supers.is(Array) && len(supers.items) > 0 {
		super, err := c.compileCondition(f, &supers.items[0], 0, a)
		if err != nil {
			return err
		}
		super.group = -1
		f.super = &super
	} else if supers != nil && supers.Kind != Array {
		return unreadable("super_groups are no list")
	}
	if h := document.present("holdout"); h != nil {
		percentage, ok := h.member("exclusion_percentage").float()
		id := h.member("id")
		if !ok || !id.is(Number) {
			return unreadable("holdout %s", h.raw)
		}
		f.setHoldout(percentage, a.variant("holdout-"+id.Text))
	} else if old := document.present("holdout_groups"); old.is(Array) && len(old.items) > 0 {
		percentage, name := 100.0, old.items[0].present("variant")
		if share := old.items[0].present("rollout_percentage"); share != nil {
			percentage, _ = share.float()
		}
		if !name.is(String) {
			return unreadable("holdout group without variant")
		}
		f.setHoldout(percentage, a.variant(strings.Clone(name.Text)))
	}
	return nil
}

func (f *Flag) setHoldout(percentage float64, answer *Answer) {
	percentage = min(max(percentage, 0), 100)
	f.holdout = &holdout{percentage, percentage / 100, answer}
}

func (c *compiler) compileConditions(f *Flag, groups, document *node, a *answers) error {
	f.earlyExit = document.member("early_exit").truth()
	if groups == nil {
		return nil
	}
	for i := range groups.items {
		condition, err := c.compileCondition(f, &groups.items[i], i, a)
		if err != nil {
			return err
		}
		f.conditions = append(f.conditions, condition)
	}
	if c.rules == Rules2023 { // conditions that choose a variant come first
		slices.SortStableFunc(f.conditions, func(x, y condition) int {
			return compareBool(!chooses(groups, x), !chooses(groups, y))
		})
	}
	return nil
}

func chooses(groups *node, c condition) bool {
	v := groups.items[c.index].member("variant")
	return v.is(String) && v.Text != ""
}

func (c *compiler) compileCondition(f *Flag, n *node, index int, a *answers) (condition, error) {
	cond := condition{index: index, group: f.group, rollout: 100}
	if n.Kind != Object {
		return cond, unreadable("condition %d", index)
	}
	if share := n.present("rollout_percentage"); share != nil {
		percentage, ok := share.float()
		if !ok {
			return cond, unreadable("rollout_percentage %s", share.raw)
		}
		cond.rollout = percentage
	}
	cond.threshold = cond.rollout / 100
	if aggregation := n.member("aggregation_group_type_index"); aggregation.is(Null) {
		cond.group = -1
	} else if aggregation != nil {
		i, ok := aggregation.integer()
		if !ok {
			return cond, unreadable("aggregation_group_type_index %s", aggregation.raw)
		}
		cond.group = c.groupAt(i)
	}
	if v := n.present("variant"); v != nil {
		if v.Kind != String {
			return cond, unreadable("variant %s", v.raw)
		}
		for _, declared := range f.variants {
			if declared.answer.Variant == v.Text && cond.override == nil {
				cond.override = declared.answer
			}
		}
	}
	var err error
	cond.filters, err = c.compileFilters(f, n.member("properties"), cond.group)
	return cond, err
}
