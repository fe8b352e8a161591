import './base.css';
import './status.css';
import './gauge.css';
import './files.css';
import './advice.css';
import './idle.css';
