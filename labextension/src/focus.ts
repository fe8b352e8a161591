import { JupyterFrontEnd } from '@jupyterlab/application';

/**
 * After a command of ours that was chosen in the palette, the keyboard is nowhere: the palette has gone, and a dialog gives
 * the focus back to what it found. Give it to what is in front in the main area then. Called once, when the page starts.
 */
export function keepFocus(app: JupyterFrontEnd): void {
  app.commands.commandExecuted.connect((_, { id, result }) => {
    if (!id.startsWith('dsvm:')) {
      return;
    }
    const giveBack = () => {
      const { currentWidget } = app.shell;
      if (document.activeElement === document.body && currentWidget) {
        app.shell.activateById(currentWidget.id);
      }
    };
    void result.then(giveBack, giveBack);
  });
}
