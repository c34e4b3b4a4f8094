"""From a call of a verb to what it asks of the driver. Both faces plan here, so a step is the same in both.

A plan is a function whose first argument is the Planner; the others, and their types, are those of the verb. It fixes the
step's identity and checks the arguments, without waiting for anything, and gives an Ask, whose type says what the verb
comes to.

planner    what all plans of one invocation share, and the Ask
bodies     run and map: the user's code as a step
polls      poll
waits      sleep, sleep_until, wait_for_event
handing    callbacks: a place where somebody outside can leave an answer
calls      invoke: another function
sending    send_event
"""
