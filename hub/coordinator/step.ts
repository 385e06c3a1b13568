import { Draft } from "./draft.ts";
import { advance, giveBack, take, tick } from "./grants.ts";
import { changeMembership, settleGroups } from "./groups.ts";
import { abort, clear, finish, hold, request, settle, unhold, withdraw } from "./operators.ts";
import type { Answer, Event, Patience, State, Step } from "./state.ts";
import { emptyVolatile, PATIENCE } from "./state.ts";
import { concerned, pingNodes, takeWord } from "./words.ts";

/**
 * The coordinator: a pure function of what it knew and what happened. It reads no clock, makes no ids and starts nothing;
 * whoever calls it stores the new state before acting on the effects (run.ts).
 */
export function step(state: State, event: Event, patience: Patience = PATIENCE): Step {
  const draft = new Draft(state, event.now, patience);
  const answer = happen(draft, event);
  settleGroups(draft);
  advance(draft);
  return { state: draft.state, effects: draft.effects, answer };
}

const done: Answer = { ok: true };

function happen(draft: Draft, event: Event): Answer {
  switch (event.kind) {
    case "started":
      draft.durable = { ...draft.durable, epoch: draft.durable.epoch + 1 };
      draft.volatile = emptyVolatile(event.run, event.now.monoMs);
      // Nobody has spoken to this run yet. Those that are connected already answer; the others say hello when they come.
      pingNodes(draft, concerned(draft));
      return done;
    case "tick":
      tick(draft);
      return done;
    case "membership":
      changeMembership(draft, event);
      for (const asked of draft.durable.requests.values()) {
        if (draft.durable.members.has(asked.node)) continue;
        draft.setRequest(asked.id, null);
        draft.note("info", "withdrawn", asked.node, `${asked.node} is no longer in the repository`, asked.by);
      }
      return done;
    case "word":
      takeWord(draft, event.node, event.word);
      return done;
    case "gone": {
      const view = draft.volatile.views.get(event.node);
      if (view?.online === true) draft.setView(event.node, { ...view, online: false });
      return done;
    }
    case "checks":
      draft.volatile = { ...draft.volatile, failingChecks: event.failing };
      return done;
    case "request":
      return request(draft, event);
    case "withdraw":
      return withdraw(draft, event);
    case "take":
      return take(draft, event);
    case "give-back":
      return giveBack(draft, event);
    case "abort":
      return abort(draft, event);
    case "finish":
      return finish(draft, event);
    case "clear":
      return clear(draft, event);
    case "hold":
      return hold(draft, event);
    case "unhold":
      return unhold(draft, event);
    case "settle":
      return settle(draft, event);
  }
}
