/**
 * The dialogs in which something is chosen. They are no part of what a page loads at first: `loadDialogs` fetches them, with the
 * first that a person opens.
 */
export { autoStop } from './autostop';
export { create } from './create';
export { allowsCarrying, askToMove, CARRY_NEEDS_YES } from './move';
export { resize } from './resize';
