package rules

// notices says what payers are told otherwise.
func (d *differ) notices() {
	to := d.to.files[noticesFile]
	d.value(about(ChangeTold, "notice", "", to.value("language")), "language", d.from.set.texts.language, d.to.set.texts.language, "")
	from, now := d.from.set.texts, d.to.set.texts
	for _, code := range keysOfBoth(from.byCode, now.byCode) {
		place := to.value("notices").value(code)
		c := about(ChangeTold, "notice", code, place)
		if from.own[code] != now.own[code] {
			one := c
			one.Change = wasAdded
			text := "added"
			if from.own[code] {
				one.Change, text = wasRemoved, "removed"
			}
			if len(defaultPayerTexts()[code]) > 0 {
				text += map[string]string{wasAdded: ", instead of built-in words", wasRemoved: ": built-in words are told instead"}[one.Change]
			}
			d.say(one, "%s", text)
		}
		if len(now.byCode[code]) == 0 {
			continue
		}
		x, y := textsIn(from.byCode[code]), textsIn(now.byCode[code])
		for _, language := range keysOfBoth(x, y) {
			d.texts(c, language+".message", x[language].Message, y[language].Message)
			d.texts(c, language+".next", x[language].Next, y[language].Next)
		}
	}
}

func textsIn(all []PayerText) map[string]PayerText {
	out := map[string]PayerText{}
	for _, t := range all {
		out[t.Language] = t
	}
	return out
}
