import { Dialog } from '@jupyterlab/apputils';

/**
 * After a test: whoever still asks is answered with a no. `Dialog.flush` would reject their promises instead, which nobody waits for any
 * more; jest then ends with 1 although every test has passed.
 */
export function closeDialogs(): void {
  Dialog.tracker.forEach(dialog => dialog.reject());
}
