package system.log_test

import data.system.log

test_arguments_are_erased if {
	log.mask == {"/input/action/arguments"} with input as {"input": {"action": {"arguments": {"q": "x"}}}}
	log.mask == {"/input/action/arguments", "/input/actions/0/arguments", "/input/actions/1/arguments"}
		with input as {"input": {"actions": [{}, {}]}}
}
